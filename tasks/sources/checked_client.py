"""A client for single files on the web that connects to checked addresses only."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from tasks.sources.http.addresses import is_public

PLUMBING = "which connections are refused cannot shape what others bring"

if TYPE_CHECKING:
    from aiohttp import ClientSession


async def checked_client(allow_private: bool, **settings: Any) -> ClientSession:
    """A session for fsspec. Every connection, those after a redirect too, leads to an address that was checked."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    def check(host: str) -> None:
        if not allow_private and not is_public(ipaddress.ip_address(host)):
            raise aiohttp.ClientConnectionError(f"{host} is no public address; `allow_private: true` allows it")

    class Resolver(AbstractResolver):
        def __init__(self) -> None:
            self._system = aiohttp.ThreadedResolver()

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._system.resolve(host, port, family)
            for entry in found:
                check(entry["host"])
            return found

        async def close(self) -> None:
            await self._system.close()

    async def check_literal(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
        # An address that is written out is never resolved. Each redirect is a request of its own here.
        try:
            ipaddress.ip_address(request.url.host or "")
        except ValueError:
            return await handler(request)
        check(request.url.host or "")
        return await handler(request)

    connector = aiohttp.TCPConnector(resolver=Resolver(), use_dns_cache=False)
    return aiohttp.ClientSession(connector=connector, middlewares=(check_literal,), **settings)
