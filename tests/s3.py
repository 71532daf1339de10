"""A real S3 endpoint for tests: moto's server in a thread, which can be told to fail.

Fixture ``s3`` gives a test an empty bucket of its own, and sets the environment (``AWS_*``) so that
``s3://`` addresses lead there, in this process and in those it starts.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Fault = Callable[["Request"], "Answer | None"]


@dataclass(frozen=True)
class Request:
    """One request that the server has got."""

    method: str
    path: str
    """``/BUCKET/KEY``."""
    query: str
    """Behind the ``?``; ``list-type=2…`` for a listing, ``partNumber=…`` for a part of an upload."""
    conditional: bool
    """Whether it has an ``If-None-Match`` or ``If-Match``."""


@dataclass(frozen=True)
class Answer:
    """What the server says instead of doing what it was asked."""

    status: str = "503 Slow Down"
    code: str = "SlowDown"
    after_doing_it: bool = False
    """Whether the request is carried out first, and only its answer is lost."""
    seconds: float = 0.0
    """How long it waits before it answers."""
    hangs_up_after: int | None = None
    """After so many bytes of the request's body it closes the connection, and answers nothing."""


@dataclass
class S3:
    """A running server."""

    endpoint: str
    bucket: str = ""
    requests: list[Request] = field(default_factory=list)
    """What was asked for since the test began, in order."""
    fault: Fault | None = None
    """Asked before each request; an answer of it is given instead of the server's own."""

    @property
    def url(self) -> str:
        """Address of the test's bucket."""
        return f"s3://{self.bucket}"

    def fail(self, times: int, matching: Callable[[Request], bool], answer: Answer | None = None) -> None:
        """Answer the next ``times`` matching requests with ``answer``, a throttling by default."""
        left = [times]

        def fault(request: Request) -> Answer | None:
            if left[0] > 0 and matching(request):
                left[0] -= 1
                return answer or Answer()
            return None

        self.fault = fault

    def count(self, method: str) -> int:
        """How many requests of this method there were."""
        return sum(request.method == method for request in self.requests)


class _Application:
    """Moto's application behind a door that records, fails, and writes one request at a time as S3 does."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._writing = threading.Lock()
        self.s3: S3 | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ.get("QUERY_STRING", ""),
            "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ,
        )
        assert self.s3 is not None
        self.s3.requests.append(request)
        answer = self.s3.fault(request) if self.s3.fault else None
        if answer is None:
            return self._do(environ, start_response)
        if answer.hangs_up_after is not None:
            environ["wsgi.input"].read(answer.hangs_up_after)
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        if answer.after_doing_it:
            list(self._do(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        time.sleep(answer.seconds)
        start_response(answer.status, [("Content-Type", "application/xml"), ("Connection", "close")])
        return [f"<Error><Code>{answer.code}</Code><Message>told to</Message></Error>".encode()]

    def _do(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._application(environ, start_response)
        with self._writing:  # moto looks and writes in two steps, so two conditional puts could both win
            return self._application(environ, start_response)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """The server that the tests of this process share."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    server_module = pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto's server is not installed")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = _Application(server_module.DomainDispatcherApplication(server_module.create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=server_module.MotoRequestHandler)
    host, port = server.server_address[:2]
    application.s3 = S3(f"http://{host!s}:{port}")
    thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    yield application.s3
    server.shutdown()
    thread.join()


_buckets = iter(range(1_000_000))


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An empty bucket, where ``s3://`` addresses of this test lead."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3_server.fault = None
    s3_server.bucket = f"bucket-{next(_buckets)}"
    request = urllib.request.Request(f"{s3_server.endpoint}/{s3_server.bucket}", method="PUT")
    urllib.request.urlopen(request).close()
    s3_server.requests.clear()
    yield s3_server
    s3_server.fault = None
