"""What becomes of the pages of the previous collection: the same, changed, gone; and the partitions they lie in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import JsonValue
from storage.corpus import HELD_OUT, Partition, read_table, write_table
from storage.identity import digest_of_value
from storage.stored import AnyFile
from storage.takedown import Takedowns
from tasks.pages.index import digest_of_version, entry_of, is_older, name_of, table_of_entries
from tasks.pages.writer import Writer
from tasks.rows import rows_of
from tasks.sources.base import Page, Terms
from tasks.spill import Spill, spilt_rows
from tasks.task import Context, Guard

_GONE, _SAME, _CHANGED = 0, 1, 2


@dataclass
class Change:
    """How a partition is to be written again."""

    keep: list[int] = field(default_factory=list)
    """Rows that stay, ascending."""
    terms: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    """Rows among them whose licence and language are now these."""
    spilt: list[tuple[int, int]] = field(default_factory=list)
    """Rows that are replaced by the pages at these places of the spill."""

    def as_json(self) -> dict[str, JsonValue]:
        return {"keep": self.keep, "terms": self.terms, "spilt": self.spilt}  # type: ignore[dict-item]


class Refresh:
    """Takes the pages as they come, once each, and settles what lies where.

    A page that is as it was costs a look-up. One that has changed is put aside until its partition is
    written again; a new one goes to the writer.
    """

    def __init__(self, index: pa.Table, number: int, spill: Spill, writer: Writer) -> None:
        """``index`` is that of the previous collection, ``number`` that of this refresh, for pages that are new."""
        self.index, self.number = index, number
        self.untouched: dict[str, AnyFile] = {}
        """Name → file, of the partitions that stay the files that they are."""
        self._spill, self._writer = spill, writer
        self._position = {identity: at for at, identity in enumerate(index["id"].to_pylist())}
        self._digests, self._ages = index["digest"].to_pylist(), index["collected_at"].to_pylist()
        self._fate = np.full(len(index), _GONE, np.uint8)
        self._changed: dict[int, dict[str, Any]] = {}
        """Position in the index → its new entry."""
        self._spilt: dict[int, int] = {}
        """Position in the index → place of the new version in the spill."""
        self._versions: dict[int, str | None] = {}
        """Position of a page that is the same → what its source knows it by from now on."""
        self._came: dict[str, datetime | None] = {}
        """Page → when its version that counts was collected."""
        self._new: dict[str, int] = {}
        """New page → its number among the writer's."""
        self._replaced: dict[int, int] = {}
        """Number of a new page that came twice → place of the newer version in the spill."""

    @property
    def pages(self) -> int:
        """How many have come."""
        return len(self._came)

    def knows(self, identity: str) -> bool:
        """Whether the previous collection has the page."""
        return identity in self._position

    def same(self, identity: str) -> bool:
        """A page that the previous collection has is as it was. Whether it counts: not if a newer version has come."""
        at = self._position[identity]
        age = self._ages[at]
        if identity in self._came and is_older(age, self._came[identity]):
            return False
        self._stays(at)
        self._came[identity] = age
        return True

    def add(self, identity: str, row: dict[str, Any], page: Page) -> bool:
        """A page as it is now. Whether it counts, which it does unless a newer version of it has come."""
        if identity in self._came and is_older(page.collected_at, self._came[identity]):
            return False
        self._came[identity] = page.collected_at
        digest = digest_of_version(page)
        if page.at is None:
            row["digest"] = digest
        at = self._position.get(identity)
        if at is not None and digest == self._digests[at]:
            self._stays(at)
            self._versions[at] = page.version
        elif at is not None:
            row["first_seen"] = self.index["first_seen"][at].as_py()
            self._fate[at] = _CHANGED
            self._spilt[at] = self._spill.add(row)
            self._changed[at] = entry_of(self.index["partition"][at].as_py(), row, page.version, digest)
        elif identity in self._new:
            number = self._new[identity]
            entry = self._writer.entries[number]
            row["first_seen"] = self.number
            self._replaced[number] = self._spill.add(row)
            self._writer.entries[number] = entry_of(entry["partition"], row, page.version, digest)
        else:
            row["first_seen"] = self.number
            self._new[identity] = self._writer.add(row, page.version, digest)
        return True

    def _stays(self, at: int) -> None:
        self._fate[at] = _SAME
        self._changed.pop(at, None)
        self._spilt.pop(at, None)

    # Once all pages have come

    def vanished(self) -> int:
        """How many pages of the previous collection did not come."""
        return int((self._fate == _GONE).sum())

    @property
    def new(self) -> int:
        """How many came for the first time."""
        return len(self._new)

    @property
    def changed(self) -> int:
        """How many came with another content than before."""
        return len(self._changed)

    def keep_vanished(self, sources: Mapping[str, bool], takedowns: Takedowns) -> None:
        """Take the pages of these sources that did not come, and are not to be forgotten, for the same as before.

        ``sources`` says of each whether it is held out: what was collected while it was not, or the
        other way round, goes.
        """
        names, held = self.index["source"].to_pylist(), pc.ends_with(self.index["id"], HELD_OUT).to_pylist()
        ours = np.array([sources.get(name) == side for name, side in zip(names, held, strict=True)], np.bool_)
        for at in np.flatnonzero((self._fate == _GONE) & ours).tolist():
            if not takedowns.concern_page(self.index["id"][at].as_py(), self.index["url"][at].as_py()):
                self._fate[at] = _SAME

    def write(self, partitions: list[Partition], terms: Mapping[str, Terms], context: Context) -> pa.Table:
        """Write what has changed, and note what has not in ``untouched``; returns the index of all pages."""
        self._spill.flush()
        said = self._said(terms)
        entries = self._settled(said)
        other_terms = self._other_terms(said)
        untouched = (self._fate == _SAME) & ~other_terms
        folder, waiting = context.scratch / "changes", []
        folder.mkdir(parents=True, exist_ok=True)
        for partition, rows in zip(partitions, self._rows_of(partitions), strict=True):
            if untouched[rows.start : rows.stop].all():
                self.untouched[partition.name] = partition.where
            elif (self._fate[rows.start : rows.stop] != _GONE).any():
                change = self._change(rows, terms, other_terms)
                (folder / f"{partition.name}.json").write_text(json.dumps(change.as_json()))
                spoken = [[e["digest"].hex(), str(e["collected_at"])] for at in rows if (e := self._changed.get(at))]
                digest = digest_of_value([partition.digest, change.keep, change.terms, spoken])
                waiting.append(replace(partition, digest=digest))
        context.map_partitions(write_again, (folder, self._spill.path), waiting, remembered=False)
        self._write_newer(context.output)
        return entries

    def _rows_of(self, partitions: list[Partition]) -> Iterator[range]:
        """The positions in the index of each partition's pages."""
        numbers = self.index["partition"].to_numpy()
        wanted = np.array([int(Path(partition.name).stem) for partition in partitions], numbers.dtype)
        first, end = np.searchsorted(numbers, wanted), np.searchsorted(numbers, wanted + 1)
        yield from map(range, first.tolist(), end.tolist())

    def _said(self, terms: Mapping[str, Terms]) -> dict[str, pa.ChunkedArray]:
        """Licence and language of each page as they are said to be now; null for sources that are no longer named."""
        number = pc.index_in(self.index["source"], value_set=pa.array(list(terms), pa.string()))
        return {
            name: pa.array([getattr(mine, name) for mine in terms.values()], pa.string()).take(number)
            for name in ("license", "language")
        }

    def _other_terms(self, said: Mapping[str, pa.ChunkedArray]) -> npt.NDArray[np.bool_]:
        """Of which pages licence or language is said to be another than before."""
        found = np.zeros(len(self.index), np.bool_)
        for name, now in said.items():
            was = self.index[name]
            same = pc.or_(pc.fill_null(pc.equal(was, now), False), pc.and_(pc.is_null(was), pc.is_null(now)))
            found |= ~same.to_numpy()
        return found

    def _change(self, rows: range, terms: Mapping[str, Terms], other_terms: npt.NDArray[np.bool_]) -> Change:
        change = Change()
        sources = self.index["source"].slice(rows.start, len(rows)).to_pylist()
        for row, (at, source) in enumerate(zip(rows, sources, strict=True)):
            if self._fate[at] == _CHANGED:
                change.spilt.append((row, self._spilt[at]))
            elif self._fate[at] == _SAME:
                change.keep.append(row)
                if other_terms[at]:
                    change.terms.append((row, terms[source].license, terms[source].language))
        return change

    def _settled(self, said: Mapping[str, pa.ChunkedArray]) -> pa.Table:
        """The index of all pages, in the order of partitions and rows."""
        index = self.index
        for name, values in said.items():
            index = index.set_column(index.schema.get_field_index(name), index.schema.field(name), values)
        if self._versions:
            versions = index["version"].to_pylist()
            for at, version in self._versions.items():
                versions[at] = version
            place = index.schema.get_field_index("version")
            index = index.set_column(place, index.schema.field(place), pa.array(versions, pa.string()))
        order = np.arange(len(index))
        changed = np.array(sorted(self._changed), np.int64)
        order[changed] = len(index) + np.arange(len(changed))
        fresh = table_of_entries([self._changed[at] for at in changed.tolist()])
        kept = pa.concat_tables([index, fresh]).take(pa.array(order[self._fate != _GONE]))
        return pa.concat_tables([kept, table_of_entries(self._writer.entries)]).combine_chunks()

    def _write_newer(self, folder: Path) -> None:
        """Put the newest versions of new pages that came more than once into the place of the first."""
        partitions = [entry["partition"] for entry in self._writer.entries]
        for number in sorted({partitions[at] for at in self._replaced}):
            first, rows = partitions.index(number), partitions.count(number)
            change = Change()
            for row in range(rows):
                at = self._replaced.get(first + row)
                change.keep.append(row) if at is None else change.spilt.append((row, at))
            path = folder / name_of(number)
            table = changed_table(read_table(path), change, self._spill.path)
            path.unlink()
            write_table(table, path)


def changed_table(table: pa.Table, change: Change, spill: Path) -> pa.Table:
    """The rows of a partition after a change, in their order."""
    for name, values in (("license", 1), ("language", 2)):
        if change.terms:
            column, place = table[name].to_pylist(), table.schema.get_field_index(name)
            for term in change.terms:
                column[term[0]] = term[values]
            table = table.set_column(place, table.schema.field(place), pa.array(column, pa.string()))
    joined = pa.concat_tables([table, *spilt_rows(spill, [at for _, at in change.spilt])])
    replaced = np.arange(len(table), len(joined))
    lies = np.concatenate([np.array(change.keep, np.int64), replaced])
    order = np.argsort([*change.keep, *(row for row, _ in change.spilt)])
    return rows_of(joined, lies[order]).combine_chunks()


def write_again(payload: tuple[Path, Path], source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write a partition with what has changed in it."""
    folder, spill = payload
    change = Change(**json.loads((folder / f"{output.name}.json").read_text()))
    write_table(changed_table(read_table(source), change, spill), output)
    return {}
