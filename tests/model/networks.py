"""Two hosts on this machine: network namespaces with an address each, and a cable between them that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TwoHosts:
    """``first`` and ``second`` are names of namespaces; ``addresses`` those of their ends of the cable."""

    first: str
    second: str
    addresses: tuple[str, str]
    shell: Path
    """What stands for ssh: called with an address and a command line."""

    def inside(self, name: str, *command: str) -> list[str]:
        """The command that runs ``command`` on a host."""
        return ["ip", "netns", "exec", name, *command]

    def cut(self) -> None:
        """Pull the cable out: what is sent vanishes, and nobody is told."""
        _ip("-n", self.first, "link", "set", "cable", "down")

    def mend(self) -> None:
        _ip("-n", self.first, "link", "set", "cable", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=120)


def why_not() -> str | None:
    """Why this machine cannot make network namespaces; None if it can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "needs Linux and iproute2"
    name = f"ath{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "add", "one", "type", "veth", "peer", "name", "two")
    except subprocess.CalledProcessError as error:
        return f"needs the right to make network namespaces: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return None


@contextmanager
def two_hosts(folder: Path) -> Iterator[TwoHosts]:
    """Make the hosts; they are gone afterwards."""
    first, second = f"ath{os.getpid()}a", f"ath{os.getpid()}b"
    addresses = ("10.77.0.1", "10.77.0.2")
    shell = folder / "shell"
    cases = "\n".join(f"{a}) name={n} ;;" for a, n in zip(addresses, (first, second), strict=True))
    shell.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}\nesac\nshift\nexec ip netns exec $name sh -c "$*"\n')
    shell.chmod(0o755)
    try:
        for name in (first, second):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for name, address in zip((first, second), addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
        yield TwoHosts(first, second, addresses, shell)
    finally:
        for name in (first, second):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
