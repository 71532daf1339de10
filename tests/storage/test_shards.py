from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import SourceError
from storage.shards import ShardFile, Shards, token_type, write_shard

documents = st.lists(st.lists(st.integers(0, 2**16 - 1), max_size=20), max_size=8)


@settings(max_examples=30, deadline=None)
@given(documents, documents)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, first: list[list[int]], second: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    for number, part in enumerate((first, second)):
        ids = [f"{number}-{index}" for index in range(len(part))]
        write_shard(
            folder / f"train-0000{number}.arrow",
            ids,
            [np.array(d, int) for d in part],
            [len(d) for d in part],
            "uint16",
        )
    write_shard(folder / "validation-00000.arrow", [], [], [], "uint16")
    shards = Shards.of_folder(folder)
    split = shards.split("train")
    assert [split.document(index).tolist() for index in range(split.documents)] == first + second
    assert split.tokens == split.utf8_bytes == sum(map(len, first + second))
    assert split.ids == [f"{n}-{i}" for n, part in enumerate((first, second)) for i in range(len(part))]
    assert shards.split("validation").documents == shards.split("validation").tokens == 0
    with pytest.raises(IndexError):
        split.document(split.documents)


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / name, ["x", "y"], [np.arange(5), np.arange(3)], [9, 7], "uint16")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_large_vocabularies_take_wider_ids(tmp_path: Path) -> None:
    assert token_type(65_536) == "uint16"
    assert token_type(65_537) == "uint32"
    write_shard(tmp_path / "a", ["x"], [np.array([70_000])], [1], "uint32")
    assert ShardFile.open(tmp_path / "a").document(0).tolist() == [70_000]
    with pytest.raises(OverflowError, match="do not fit uint16"):
        write_shard(tmp_path / "b", ["x"], [np.array([70_000])], [1], "uint16")


def test_what_is_no_shard_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "train-00000.arrow").write_bytes(b"not arrow at all")
    with pytest.raises(SourceError, match=r"train-00000\.arrow: not a shard file"):
        Shards.of_folder(tmp_path).split("train")
    table = pa.table({"id": ["x"]})
    with pa.OSFile(str(tmp_path / "train-00000.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(SourceError, match="not a shard file"):
        Shards.of_folder(tmp_path).split("train")
