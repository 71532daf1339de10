"""Real text to measure on: the data beside the project, and HTML from Debian's packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SHARED = Path(os.environ.get("ATHANOR_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Folder of labelled data; a benchmark that needs what is absent says so and is left out."""
CACHE = Path(os.environ.get("ATHANOR_BENCH_CACHE", Path(__file__).parent / ".cache"))
"""Where packages are unpacked; never committed."""


class DataMissing(Exception):
    """A benchmark's data are not on this machine."""


def shared(name: str) -> Path:
    """A file or folder of the labelled data; raises DataMissing."""
    path = SHARED / name
    if not path.exists():
        raise DataMissing(f"{path} is absent")
    return path


def debian(package: str) -> Path:
    """The unpacked files of a Debian package, downloaded once; raises DataMissing where apt has none."""
    folder = CACHE / package
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    beside = CACHE / f"{package}.partial"
    try:
        subprocess.run(["apt-get", "download", package], cwd=CACHE, check=True, capture_output=True)
        archive = next(CACHE.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive.name, beside.name], cwd=CACHE, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (
            error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
        )
        raise DataMissing(f"Debian's package {package} could not be had: {detail.strip()[-200:]}") from error
    archive.unlink()
    beside.rename(folder)
    return folder


def html_files(package: str) -> list[Path]:
    """Every HTML page of a Debian package, in the order of their names."""
    return sorted(path for path in debian(package).rglob("*.html") if path.is_file() and not path.is_symlink())
