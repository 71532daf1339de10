"""Merging the small partitions that refreshes with few new pages leave behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from storage.corpus import read_table
from storage.stored import AnyFile, located
from tasks.pages.index import name_of, table_of_entries
from tasks.pages.writer import Size, Writer


def compacted(
    index: pa.Table, folder: Path, elsewhere: dict[str, AnyFile], size: Size, most: int, number: int
) -> pa.Table:
    """Merge the partitions at the end if more than ``most`` in a row are less than half full; the index thereafter.

    Partitions lie in ``folder``, or where ``elsewhere`` says; what is merged is removed from there. Their pages go, in
    their order, into full partitions that are numbered from ``number``, and nothing else moves. So a page is moved
    again only as long as it lies in a small partition.
    """
    numbers, starts = np.unique(index["partition"].to_numpy(), return_index=True)
    sizes = index["bytes"].to_numpy()
    bounds = [*starts.tolist(), len(index)]
    first = len(numbers)
    while first and size.is_small(
        bounds[first] - bounds[first - 1], int(sizes[bounds[first - 1] : bounds[first]].sum())
    ):
        first -= 1
    if len(numbers) - first <= most:
        return index
    tail = index.slice(bounds[first])
    with Writer(folder, number, size) as writer:
        at = 0
        for small in numbers[first:].tolist():
            name = name_of(small)
            for row in read_table(located(elsewhere.get(name, folder / name))).to_pylist():
                writer.add(row, tail["version"][at].as_py(), tail["digest"][at].as_py())
                at += 1
            if elsewhere.pop(name, None) is None:
                (folder / name).unlink()
        writer.close()
    return pa.concat_tables([index.slice(0, bounds[first]), table_of_entries(writer.entries)])
