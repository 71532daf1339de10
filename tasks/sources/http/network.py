"""Connections that lead to checked addresses only, and that end in time."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from tasks.sources.http.addresses import addresses_of

_local = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """All that this thread reads and writes within must be done after ``seconds``, else httpcore.ReadTimeout.

    A limit on each read alone would let a server hold a connection for days, a byte at a time.
    """
    _local.until = time.monotonic() + seconds
    try:
        yield
    finally:
        del _local.until


def _left(timeout: float | None) -> float | None:
    """Seconds that an operation may take: its own limit, or what is left until the thread's deadline."""
    until: float | None = getattr(_local, "until", None)
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the whole took too long")
    return left if timeout is None else min(timeout, left)


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a name, checks its addresses, and connects to one that was checked.

    So a name that resolves otherwise a moment later (DNS rebinding) changes nothing. TLS still
    verifies the certificate against the name.
    """

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises Refused, httpcore.ConnectError or httpcore.ConnectTimeout."""
        try:
            addresses = addresses_of(host, port, self._allow_private)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        for number, address in enumerate(addresses, 1):
            try:
                stream = self._plain.connect_tcp(address, port, _left(timeout), local_address, socket_options)
                return _TimedStream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise AssertionError("addresses_of returns at least one")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("a source of pages connects to no local socket")

    def sleep(self, seconds: float) -> None:
        self._plain.sleep(seconds)


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every operation ends at the thread's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
