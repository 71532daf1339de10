"""Where a collection may go: to no private address, however it is written or reached."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from storage.errors import SourceError
from tasks.sources.http import addresses
from tests.tasks.sources.http.collected import collect, reasons, redirects, rows, sitemap
from tests.tasks.sources.web import Web, certificate, served


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
def test_private_addresses_are_refused_in_any_form(web: Web, tmp_path: Path, host: str) -> None:
    web.page("/a", "<p>secret</p>")
    with pytest.raises(SourceError, match=r"\(1 private_address\)|no page is named"):
        collect(tmp_path, urls=[f"http://{host}:{web.port}/a"], allow_private=False, respect_robots=False)
    assert web.asked == []


def test_a_redirect_to_a_private_address_is_refused(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    web.routes["/leads"] = redirects(f"http://127.0.0.2:{web.port}/secret")
    web.page("/secret", "<p>secret</p>")
    web.page("/good", "<p>x</p>")
    outcome = collect(tmp_path, urls=[web.url("/leads"), web.url("/good")], allow_private=False)
    assert reasons(outcome) == {"private_address": 1}
    assert web.asked_for("/secret") == 0


def test_certificates_are_checked_against_the_name_though_an_address_is_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, *options: Any, **named: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", resolve)
    trusted, context = certificate(tmp_path, "pages.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with served(context) as web:
        web.page("/a", "<p>x</p>")
        urls = [f"https://{host}:{web.port}/a" for host in ("pages.test", "other.test")]
        outcome = collect(tmp_path, urls=urls, respect_robots=False)
        assert [row["url"] for row in rows(outcome).values()] == urls[:1]
        assert reasons(outcome) == {"tls": 1}
        assert web.conditions["/a"]["Host"] == f"pages.test:{web.port}"


def test_robots_and_sitemaps_are_fetched_with_the_same_care(web: Web, tmp_path: Path) -> None:
    web.page("/map", sitemap("https://example.org/"), Content_Type="text/xml")
    with pytest.raises(SourceError, match="private_address"):
        collect(tmp_path, sitemaps=[web.url("/map")], feeds=[web.url("/map")], allow_private=False)
    assert web.asked == []
