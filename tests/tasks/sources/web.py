"""A web server of one's own that does as it is told, however bad."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Say = Callable[["Request"], None]


@dataclass(frozen=True)
class Request:
    """One request, and the means to answer it."""

    path: str
    headers: Message
    handler: BaseHTTPRequestHandler

    def answer(self, content: bytes | str = b"", status: int = 200, **headers: str) -> None:
        """Answer in good order; ``Content_Type="text/html"`` and the like are headers."""
        body = content.encode() if isinstance(content, str) else content
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named = {"Content-Type": "text/html", "Content-Length": str(len(body))} | named
        self.handler.send_response(status)
        for name, value in named.items():
            if value:
                self.handler.send_header(name, value)
        self.handler.end_headers()
        if status != 304:
            self.handler.wfile.write(body)

    def raw(self, content: bytes) -> None:
        """Write these bytes and hang up."""
        self.handler.wfile.write(content)
        self.handler.close_connection = True

    def drip(self, content: bytes, seconds: float) -> None:
        """Write a byte at a time, so far apart, until nobody listens."""
        self.handler.close_connection = True
        try:
            for byte in content:
                self.handler.wfile.write(bytes([byte]))
                time.sleep(seconds)
        except OSError:
            return


@dataclass
class Web:
    """The server: what is at each path, and what it was asked for."""

    port: int = 0
    routes: dict[str, Say] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Paths in the order in which they were asked for, robots.txt left out."""
    times: list[float] = field(default_factory=list)
    """When, by the monotonic clock."""
    conditions: dict[str, dict[str, str]] = field(default_factory=dict)
    """Path → headers of the last request for it."""

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def page(self, path: str, content: bytes | str, status: int = 200, **headers: str) -> None:
        """Put a page at a path. One with an ``ETag`` is not sent to who has it."""

        def say(request: Request) -> None:
            tag, modified = headers.get("ETag"), headers.get("Last_Modified")
            if (tag and request.headers["If-None-Match"] == tag) or (
                modified and request.headers["If-Modified-Since"] == modified
            ):
                request.answer(status=304)
            else:
                request.answer(content, status, **headers)

        self.routes[path] = say

    def asked_for(self, path: str) -> int:
        """How often."""
        return self.asked.count(path)


@contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server on this machine, with a thread for each connection."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/robots.txt":
                web.asked.append(self.path)
                web.times.append(time.monotonic())
            web.conditions[self.path] = dict(self.headers.items())
            request = Request(self.path, self.headers, self)
            say = web.routes.get(self.path)
            try:
                if say is None:
                    request.answer("nothing here", 404)
                else:
                    say(request)
            except OSError:  # the client has hung up, as it should
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def certificate(folder: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for a host, signed by itself: a file to trust it by, and a context to serve with it."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "certificate.pem", folder / "key.pem"
    trusted.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *formats))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return trusted, context
