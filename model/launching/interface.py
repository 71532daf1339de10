"""Which network interface the processes of several hosts talk through."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from model.launching.hosts import Hosts
from storage.errors import UserError

_SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface (netdevice(7))."""


def use_interface(hosts: Hosts | None) -> None:
    """Let this process and those on other hosts talk through the interface that is given, or that leads to the first.

    Gloo and NCCL would take the one that this host's own name resolves to, which is often its loopback.
    """
    if hosts is None or hosts.launcher == "ray":  # Ray has connected its processes already
        return
    interface = hosts.interface or interface_towards(os.environ["MASTER_ADDR"])
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if interface is not None:
            os.environ.setdefault(variable, interface)


def interface_towards(address: str) -> str | None:
    """Name of the network interface whose IPv4 address this host shows to ``address``, if it can be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing
            own = probe.getsockname()[0]
        except OSError as error:
            raise UserError(f"hosts.address {address}: {error.strerror}") from error
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # it has no IPv4 address
            if socket.inet_ntoa(found[20:24]) == own:
                return name
    return None
