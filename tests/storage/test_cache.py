"""Copies of remote objects stay within their limit, and no process loses one that it uses."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

from storage import cache as cache_module
from storage.artifact import FileEntry
from storage.cache import ObjectCache, cache_limit
from storage.disk import beside
from storage.errors import UserError
from storage.objects import objects_at
from storage.objects.remote import RemoteObjects
from storage.place import Place
from storage.stored import StoredFile

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_UNTOUCHED_SECONDS", -1.0)
    monkeypatch.setattr(cache_module, "_SHARE_BETWEEN_LOOKS", 0.0)


def add(cache: ObjectCache, digest: str, size: int, age: float = 0.0) -> Path:
    file = beside(cache.path(digest))
    file.write_bytes(b"x" * size)
    path = cache.add(digest, file)
    used = time.time() - age
    if path.exists():
        os.utime(path, (used, path.stat().st_mtime))
    return path


def test_the_least_recently_used_copies_go_first(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 1000)
    old, older, used = (add(cache, f"aa{n}", 300, age) for n, age in ((1, 100), (2, 200), (3, 300)))
    cache.touch("aa3")
    newest = add(cache, "bb1", 300)
    assert [path.exists() for path in (old, older, used, newest)] == [True, False, True, True]
    with pytest.raises(FileNotFoundError):
        cache.touch("aa2")


def test_pinned_copies_stay_while_their_process_lives(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from storage.cache import ObjectCache
        ObjectCache(Path(sys.argv[1]), 1000).pin("aa1")
        print("pinned", flush=True)
        sys.stdin.read()
    """)
    cache = ObjectCache(tmp_path, 1000)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"pinned\n"
    oldest = add(cache, "aa1", 600, 500)
    cache.pin("aa2")
    second = add(cache, "aa2", 600, 400)
    third = add(cache, "aa3", 600, 300)
    assert [path.exists() for path in (oldest, second, third)] == [True, True, False]
    other.communicate(b"")
    add(cache, "aa4", 10)
    assert [path.exists() for path in (oldest, second)] == [False, True]


def test_copies_that_are_held_stay_until_they_are_released_as_often(tmp_path: Path) -> None:
    cache, neighbour = ObjectCache(tmp_path, 1000), ObjectCache(tmp_path, 1000)
    cache.hold("aa1")
    cache.hold("aa1")
    held = add(cache, "aa1", 900, 500)
    cache.release("aa1")
    add(neighbour, "aa2", 900)
    assert held.exists()
    cache.release("aa1")
    add(neighbour, "aa3", 900)
    assert not held.exists()
    cache.pin("aa4")
    cache.hold("aa4")
    cache.release("aa4")
    pinned = add(cache, "aa4", 900, 500)
    add(neighbour, "aa5", 900)
    assert pinned.exists()


def test_what_was_just_used_and_what_is_open_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ObjectCache(tmp_path, 1000)
    path = add(cache, "aa1", 900, 100)
    with path.open("rb") as file:
        add(cache, "aa2", 900)
        assert not path.exists()
        assert len(file.read()) == 900
    monkeypatch.setattr(cache_module, "_UNTOUCHED_SECONDS", 60.0)
    add(cache, "aa3", 900)
    assert cache.path("aa2").exists()


def test_objects_are_fetched_again_once_their_copy_has_gone(tmp_path: Path) -> None:
    url = f"memory://cache-{uuid.uuid4().hex}"
    objects = objects_at(Place(url), tmp_path / "cache", 1000)
    assert isinstance(objects, RemoteObjects)
    entries: list[FileEntry] = []
    for n in range(5):
        (tmp_path / "file").write_bytes(f"{n}".encode() * 400)
        entries.append(objects.put(tmp_path / "file", keep=True))
    for _ in range(2):
        for n, entry in enumerate(entries):
            file = StoredFile(url, tmp_path / "cache", 1000, entry)
            assert file.path().read_bytes() == f"{n}".encode() * 400
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) <= 1000
    copy = objects.copy(entries[0])
    copy.chmod(0o644)
    copy.write_bytes(b"changed on the disk")
    assert objects.copy(entries[0]).read_bytes() == b"0" * 400


@pytest.mark.parametrize("value", ["much", "0", "-1", "nan"])
def test_a_wrong_limit_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_CACHE_GB", value)
    with pytest.raises(UserError, match=f"ATHANOR_CACHE_GB={value}"):
        cache_limit()
