"""The digest of a file is remembered as long as nothing about the file changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage import filecache
from storage.filecache import DigestCache
from storage.identity import digest_of_file


def aged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize(("ahead", "at_once"), [(1, 0), (3, 0), (1000, 0), (None, 100), (None, 12), (None, 3)])
def test_digests_are_those_of_the_content_whatever_was_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int | None, at_once: int
) -> None:
    monkeypatch.setattr(filecache, "MOST_AT_ONCE", at_once)
    folder = tmp_path / "files"
    folder.mkdir()
    files = [aged(folder / f"{number:02}.html", b"%d" % number) for number in range(0, 20, 2)]
    odd = folder / os.fsdecode(b"caf\xe9.html")
    files.append(aged(odd, b"a name that is not UTF-8"))
    first = DigestCache(tmp_path / "digests.db", ahead)
    assert [first.digest_of_file(path) for path in files] == [digest_of_file(path) for path in files]

    between = [aged(folder / f"{number:02}.html", b"new %d" % number) for number in range(1, 20, 6)]
    aged(files[4], b"changed")
    paths = sorted([*files, *between])
    for cache in (first, DigestCache(tmp_path / "digests.db", ahead)):
        assert [cache.digest_of_file(path) for path in paths] == [digest_of_file(path) for path in paths]
        cache.write()

    monkeypatch.setattr(filecache, "digest_of_file", lambda path: "read again")
    again = DigestCache(tmp_path / "digests.db", ahead)
    assert [again.digest_of_file(path) for path in reversed(paths)] == [
        digest_of_file(path) for path in reversed(paths)
    ]
    again.forget()
    assert again.digest_of_file(paths[0]) == "read again"


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    """It could change again within the clock's grain, and look the same."""
    path = tmp_path / "page.html"
    path.write_bytes(b"one")
    cache = DigestCache(tmp_path / "digests.db")
    assert cache.digest_of_file(path) == digest_of_file(path)
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.digest_of_file(path) == digest_of_file(path)


@pytest.mark.parametrize("files", [1, 1500])
def test_what_was_remembered_is_written_at_the_end_at_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    paths = [aged(tmp_path / f"{number:04}", b"%d" % number) for number in range(files)]
    cache = DigestCache(tmp_path / "digests.db")
    digests = [cache.digest_of_file(path) for path in paths]
    del cache
    monkeypatch.setattr(filecache, "digest_of_file", lambda path: "read again")
    assert [DigestCache(tmp_path / "digests.db").digest_of_file(path) for path in paths[-1:]] == digests[-1:]
    again = DigestCache(tmp_path / "digests.db")
    assert [again.digest_of_file(path) for path in paths] == digests


def test_a_file_that_is_complete_is_remembered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"complete")
    cache = DigestCache(tmp_path / "digests.db")
    cache.note(path, digest_of_file(path))
    cache.write()
    monkeypatch.setattr(filecache, "digest_of_file", lambda path: "read again")
    for one in (cache, DigestCache(tmp_path / "digests.db")):
        assert one.digest_of_file(path) == digest_of_file(path)
    path.write_bytes(b"more than that")
    assert cache.digest_of_file(path) == "read again"
