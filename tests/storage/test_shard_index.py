from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import shards as shards_module
from storage.errors import SourceError
from storage.shard_index import INDEX, index_of, read_index, write_index
from storage.shards import ShardFile, Shards, index_of_files, write_shard


def made_shards(folder: Path, files: int, indexed: bool = True) -> Shards:
    """Three documents a file; the tokens of each are the number of its file."""
    for number in range(files):
        arrays = [np.full(length, number) for length in (2, 0, 5)]
        write_shard(folder / f"train-{number:05}.arrow", list("abc"), arrays, [1, 2, 3], "uint16")
    if indexed:
        paths = {path.name: path for path in folder.glob("train-*")}
        write_index(folder, index_of_files(paths))
    return Shards.of_folder(folder)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(["train-a", "train-b", "validation-a"]), st.lists(st.integers(0, 2**32 - 1))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, files: dict[str, list[int]]) -> None:
    folder = tmp_path_factory.mktemp("index")
    write_index(folder, index_of({name: (lengths, len(name)) for name, lengths in files.items()}))
    index = read_index(folder / INDEX)
    assert index.files == sorted(files)
    for prefix in ("train-", "validation-", "none-"):
        part = index.only(prefix)
        assert part.files == [name for name in sorted(files) if name.startswith(prefix)]
        assert part.lengths.tolist() == [length for name in part.files for length in files[name]]
        assert part.bounds.tolist() == np.cumsum([0, *(len(files[name]) for name in part.files)]).tolist()
        assert part.utf8_bytes.tolist() == [len(name) for name in part.files]
        assert int(part.starts[-1]) == sum(part.lengths.tolist())


def test_no_shard_file_is_opened_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = made_shards(tmp_path, 5)
    opened: list[str] = []
    really = ShardFile.open
    monkeypatch.setattr(ShardFile, "open", lambda path: opened.append(path.name) or really(path))
    split = shards.split("train")
    assert (split.documents, split.tokens, split.utf8_bytes) == (15, 35, 30)
    assert opened == []
    assert split.document(8).tolist() == [2] * 5
    assert opened == ["train-00002.arrow"]


def test_shards_without_an_index_are_read_as_well(tmp_path: Path) -> None:
    plain, indexed = made_shards(tmp_path / "a", 4, indexed=False), made_shards(tmp_path / "b", 4)
    assert plain.split("train").lengths.tolist() == indexed.split("train").lengths.tolist()
    assert plain.split("train").ids == list("abc") * 4


def test_only_so_many_files_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "_MOST_OPEN", 3)
    split = made_shards(tmp_path, 9).split("train")
    for _ in range(2):
        for number in (2, 5, 8, 26, 11, 2):
            assert set(split.document(number).tolist()) == {number // 3}
        assert sum(values is not None for values in split._values) <= 3


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd")))  # other tests of this process may have left some open
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 40, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_open_files_take_no_descriptors(tmp_path: Path, few_descriptors: None) -> None:
    split = made_shards(tmp_path, 200).split("train")
    assert [int(split.document(3 * number)[0]) for number in range(200)] == list(range(200))


def test_an_index_that_does_not_fit_is_told(tmp_path: Path) -> None:
    made_shards(tmp_path, 2)
    (tmp_path / "train-00001.arrow").unlink()
    with pytest.raises(SourceError, match="lists other files"):
        Shards.of_folder(tmp_path).split("train")
    write_shard(tmp_path / "train-00001.arrow", list("abc"), [np.arange(3)] * 3, [1, 2, 3], "uint16")
    split = Shards.of_folder(tmp_path).split("train")
    with pytest.raises(SourceError, match=r"train-00001\.arrow: other documents than index\.arrow says"):
        split.document(4)
    (tmp_path / INDEX).write_bytes(b"no index")
    with pytest.raises(SourceError, match=r"index\.arrow: not an index"):
        Shards.of_folder(tmp_path).split("train")
