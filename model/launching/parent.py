"""How a training process hangs on to the one that asked for it.

Torchrun stands between the two and passes no descriptors on, so a process connects to its
launcher's socket. Over it come the descriptors of the build's lock, which it then holds as well;
and the connection ends when the launcher ends, however it ended, which ends the process too.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

PLUMBING = "who lives and dies with whom cannot shape bytes"

ADDRESS = "ATHANOR_LAUNCHER"
"""Environment variable with the path of the launcher's socket."""
_MOST_DESCRIPTORS = 16
_POLL_SECONDS = 1.0
_ORPHANED = 70


class Launcher:
    """The launcher's end: hands the descriptors to every process that connects."""

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._descriptors = descriptors
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connections: list[socket.socket] = []
        # A folder of its own, for this user alone; the scratch's path may be too long for a socket (107 bytes).
        self._folder = Path(tempfile.mkdtemp(prefix="athanor-"))
        self.address = str(self._folder / "launcher")
        self._socket.bind(self.address)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            self._connections.append(connection)
            with suppress(OSError):  # it was killed meanwhile; the others still come
                socket.send_fds(connection, [b"!"], list(self._descriptors))

    def close(self) -> None:
        """Let go of all processes; those that still run will end."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def hold_on() -> None:
    """Connect to the launcher, take over its lock, and end with it (or with torchrun) from now on.

    On a host that is not the launcher's, the process ends with torchrun alone.
    """
    address = os.environ.get(ADDRESS)
    if address is None:
        threading.Thread(target=_watch, args=(None, os.getppid()), daemon=True).start()
        return
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
        socket.recv_fds(connection, 1, _MOST_DESCRIPTORS)  # kept open, and never used, until the process ends
    except OSError:
        os._exit(_ORPHANED)
    threading.Thread(target=_watch, args=(connection, os.getppid()), daemon=True).start()


def _watch(connection: socket.socket | None, parent: int) -> None:
    if connection is not None:
        connection.settimeout(_POLL_SECONDS)
    while os.getppid() == parent:
        if connection is None:
            time.sleep(_POLL_SECONDS)
            continue
        try:
            if connection.recv(1) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    os._exit(_ORPHANED)
