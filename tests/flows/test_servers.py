"""Whether a server answers."""

from __future__ import annotations

import socket
import threading

import pytest

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
