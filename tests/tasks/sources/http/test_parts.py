"""The pieces of the source of web pages whose faults would not be seen from outside."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sources.http import network
from tasks.sources.http.addresses import Refused, addresses_of, is_public
from tasks.sources.http.bodies import GZIP, Broken, TooLarge, body_of, inflated
from tasks.sources.http.journal import Fetched, Journal
from tasks.sources.http.network import CheckedBackend, deadline
from tasks.sources.http.pace import Pace, Stopped

PRIVATE = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("192.0.0.1", "192.0.2.1", "192.168.0.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b:1::1", "64:ff9b::a9fe:a9fe", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1"),
    *("fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1"),
]
PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


def test_addresses_of_the_public_internet_and_others() -> None:
    assert [address for address in PRIVATE if is_public(ipaddress.ip_address(address))] == []
    assert [address for address in PUBLIC if not is_public(ipaddress.ip_address(address))] == []


def _resolver(answers: list[list[str]]) -> Any:
    def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    return getaddrinfo


def test_what_is_connected_to_is_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that is public when it is looked at and private a moment later (DNS rebinding).
    monkeypatch.setattr(socket, "getaddrinfo", _resolver([["93.184.215.14"], ["127.0.0.1"]]))
    connected: list[str] = []

    def connect(self: Any, host: str, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        connected.append(host)
        return httpcore.MockStream([])

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    backend = CheckedBackend(allow_private=False)
    backend.connect_tcp("rebind.test", 80)
    assert connected == ["93.184.215.14"]
    with pytest.raises(Refused, match=r"rebind.test is 127\.0\.0\.1: no public address"):
        backend.connect_tcp("rebind.test", 80)
    with pytest.raises(httpcore.ConnectError):
        backend.connect_unix_socket("/run/docker.sock")


def test_of_several_addresses_only_public_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolver([["10.0.0.1", "1.1.1.1", "::1"], ["10.0.0.1", "::1"]]))
    assert addresses_of("mixed.test", 80, allow_private=False) == ["1.1.1.1"]
    assert addresses_of("mixed.test", 80, allow_private=True) == ["10.0.0.1", "::1"]


def test_a_name_that_is_none_is_not_resolved() -> None:
    with pytest.raises(OSError, match="no host name"):
        addresses_of("a" * 70 + ".test", 80, allow_private=False)


def test_a_deadline_bounds_everything_within(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(network.time, "monotonic", lambda: now[0])
    with deadline(5):
        assert network._left(30) == 5
        now[0] += 4
        assert network._left(30) == 1
        assert network._left(0.5) == 0.5
        now[0] += 1
        with pytest.raises(httpcore.ReadTimeout):
            network._left(30)
    assert network._left(30) == 30


def test_turns_at_a_host_are_apart_and_hosts_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(2.0)
    monkeypatch.setattr(pace, "sleep", slept.append)
    for host in ("a", "a", "b", "a"):
        pace.wait(host)
    assert slept == [0, 2, 0, 4]
    pace.slow("a", 5)
    pace.hold("b", 30)
    now[0] += 10
    slept.clear()
    for host in ("a", "a", "b"):
        pace.wait(host)
    assert slept == [0, 5, 20]
    assert pace.ready("b") == 132


def test_who_waits_is_let_go_when_all_is_over() -> None:
    pace = Pace(3600)
    pace.wait("a")
    pace.stop()
    with pytest.raises(Stopped):
        pace.wait("a")


@given(st.binary(max_size=3000), st.integers(1, 50), st.sampled_from(["", "gzip", "deflate"]), st.integers(0, 4000))
def test_a_body_is_what_was_packed_however_it_comes(content: bytes, step: int, coding: str, most: int) -> None:
    packed = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[coding](content)
    chunks = [packed[at : at + step] for at in range(0, len(packed), step)]
    if len(content) > most:
        with pytest.raises(TooLarge):
            body_of(chunks, coding, most)
    else:
        assert body_of(chunks, coding, most) == content


@given(st.binary(min_size=1, max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_what_is_not_packed_is_broken_and_nothing_worse(content: bytes, coding: str) -> None:
    try:
        body_of([content], coding, 1000)
    except (Broken, TooLarge):
        return
    assert content[:1] in (b"\x1f", b"\x78") or coding == "deflate"


def test_an_unfinished_journal_keeps_pages_for_a_day_and_failures_not_at_all(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    journal = Journal(tmp_path / "fetched.db")
    for name, kind, age in (("a", "page", 1), ("b", "bad", 1), ("c", "same", 30), ("d", "page", 30)):
        journal.add(f"http://e.org/{name}", "e.org")
        journal.save([Fetched(f"http://e.org/{name}", kind, at=now - timedelta(hours=age))])  # type: ignore[arg-type]
    journal.listing_is_done()
    journal.close()
    again = Journal(tmp_path / "fetched.db")
    assert again.is_listed
    assert again.missing("e.org", "", "z") == ["http://e.org/b", "http://e.org/c", "http://e.org/d"]
    assert [fetched.url for fetched in again.results("", "z")] == ["http://e.org/a"]
    again.close()


def test_a_bomb_is_unpacked_in_small_pieces() -> None:
    pieces = inflated([gzip.compress(bytes(50_000_000))], GZIP, 1000)
    assert max(len(next(pieces)) for _ in range(5)) <= 1001
