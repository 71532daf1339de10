"""How much memory there is for workers: what the machine has free, and what the cgroups above this process allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PLUMBING = "it measures"

_UNLIMITED = 2**60


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that processes started now may take before something is killed; None where that cannot be known.

    The file cache counts as free: the kernel gives it up first.
    """
    try:
        found = [int(line.split()[1]) * 1024 for line in _lines(proc / "meminfo") if line.startswith("MemAvailable:")]
        found += [limit - used for limit, used in _limits(proc, cgroups)]
    except (OSError, ValueError):
        return None
    return max(0, min(found)) if found else None


def _limits(proc: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every cgroup that this process is in, of version 1 or 2."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _above(cgroups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _above(cgroups / "memory", path, *names)


def _above(root: Path, path: str, limit_file: str, used_file: str, cache_name: str) -> Iterator[tuple[int, int]]:
    folder = root / path.strip("/")
    while True:
        if (folder / limit_file).exists():
            limit = (folder / limit_file).read_text().strip()
            if limit != "max" and int(limit) < _UNLIMITED:
                cache = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.startswith(cache_name)]
                yield int(limit), int((folder / used_file).read_text()) - sum(cache)
        if folder == root or root not in folder.parents:
            return
        folder = folder.parent


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
