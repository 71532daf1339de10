"""Whether a server answers, and what its clients are given."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from flows import servers
from flows.home import Home
from flows.servers import answers


@pytest.mark.parametrize("said", [b"\x00\x01 not HTTP\r\n", b"", b"HTTP/1.1 500 Broken\r\n\r\n"])
def test_what_answers_otherwise_is_no_server_of_ours(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        assert not answers(f"http://127.0.0.1:{listener.getsockname()[1]}/api/health")
        thread.join()


def test_prefect_s_clients_load_one_certificate_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(servers, "running_up", lambda home: servers.Addresses(1, "http://127.0.0.1:1", ""))
    with servers.prefect_api(Home(tmp_path), lambda address: None):
        loaded = ssl.create_default_context(cafile=os.environ["PREFECT_API_SSL_CERT_FILE"])
    assert loaded.cert_store_stats()["x509"] == 1
