"""Which addresses a crawler may connect to."""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that a translator will connect to."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""RFC 4291, section 2.4: all that is assigned to hosts of the internet."""


class Refused(Exception):
    """A host has no address that may be connected to."""


def is_public(address: Address) -> bool:
    """Whether this is an address of the public internet.

    Private, loopback, link-local, shared, reserved, documentation and multicast addresses are not,
    nor are IPv6 addresses that lead to such an IPv4 address (mapped, 6to4, NAT64) or through a relay (Teredo).
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    inner = _ipv4_within(address)
    if inner is not None:
        return is_public(inner)
    return address in _GLOBAL_UNICAST and address.is_global and address.scope_id is None and address.teredo is None


def _ipv4_within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def addresses_of(host: str, port: int, allow_private: bool) -> list[str]:
    """The addresses to connect to for ``host``: a name, or an address in any form that the system understands.

    The system's resolver reads ``127.1``, ``0x7f000001`` and ``2130706433`` as it would on connecting,
    so what is checked is what is meant. Raises Refused if no address may be connected to, OSError if
    the name is unknown.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError(f"{host!r} is no host name") from error
    named = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    good = [name for name in named if allow_private or is_public(ipaddress.ip_address(name))]
    if not good:
        raise Refused(f"{host} is {', '.join(named)}: no public address; `allow_private: true` allows it")
    return good
