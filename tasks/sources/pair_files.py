"""Prompt and response pairs from files: JSON lines, and tables of comma-separated values."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from storage.artifact import JsonValue
from storage.corpus import document_id
from storage.errors import SourceError
from storage.identity import digest_of_value
from tasks.sources.base import MIN_TOLERATED, Bad, PassedOver
from tasks.sources.columns import MISSING, value_of
from tasks.sources.jsonl import record_of
from tasks.sources.lines import numbered_lines
from tasks.sources.pairs import Pair, PairSource
from tasks.sources.places import SourceFile, checked_path, files_of
from tasks.task import Context, Outside, World

_MOST_LINE = 10_000_000


class PairFiles(PairSource):
    """Pairs from the records of files, two of whose fields are prompt and response.

    Pairs with the same prompt are on one side of the split. A record that cannot be used, or a file that
    breaks off, is counted and left out.
    """

    kind: str
    path: Annotated[str, Outside(), AfterValidator(checked_path)]
    """A file, a folder, or a glob: a local path, or an address that fsspec opens (``s3://…``)."""
    prompt: str = Field(min_length=1)
    """The field with the prompt (``data.question``: the field ``question`` of ``data``)."""
    response: str = Field(min_length=1)
    """The field with the response."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """The share of unusable records from which the step fails. A single one never fails it, unless this is 0."""

    def fingerprint(self, world: World) -> JsonValue:
        return digest_of_value([[ascii(file.name), file.state(world)] for file in self._files(world)])

    def pairs(self, context: Context) -> Iterator[Pair | Bad | PassedOver]:
        taken, bad, first = 0, 0, ""
        for file in self._files(context.world):
            for number, record in self.records(file):
                if taken == context.world.limit:
                    break
                found = record if isinstance(record, Bad) else self._pair(f"{file.name}, line {number}", record)
                if isinstance(found, Bad):
                    bad += 1
                    first = first or f"{found.name}: {found.detail}"
                else:
                    taken += 1
                yield found
        tolerated = max(int(self.max_bad_fraction * (taken + bad)), MIN_TOLERATED if self.max_bad_fraction else 0)
        if bad > tolerated or not taken:
            first = first or f"{self.path}: there is no record"
            raise SourceError(
                f"{self._place}: {first} ({bad} of {taken + bad} records are unusable); correct the file, "
                f"`prompt` and `response`, or raise `max_bad_fraction` (now {self.max_bad_fraction:g})"
            )

    @abstractmethod
    def records(self, file: SourceFile) -> Iterator[tuple[int, Mapping[str, Any] | Bad]]:
        """The records of a file with the numbers of their first lines."""

    def _files(self, world: World) -> list[SourceFile]:
        return files_of(world, self.path, self._place)

    def _pair(self, place: str, record: Mapping[str, Any]) -> Pair | Bad:
        found = []
        for field in (self.prompt, self.response):
            value = value_of(record, field)
            if value is MISSING:
                has = ", ".join(sorted(map(str, record))) or "none"
                return Bad(place, "bad_line", f"there is no field {field!r}; its fields are {has}")
            text = _text(value)
            if text is None:
                return Bad(place, "bad_line", f"the field {field!r} holds no text")
            found.append(text)
        return Pair(found[0], found[1], document_id(self.name or self.kind, found[0]))

    @property
    def _place(self) -> str:
        return f"source {self.name or self.kind}"


class JsonlPairs(PairFiles):
    """Pairs from JSON lines, compressed or not: one object a line."""

    kind: Literal["jsonl"] = "jsonl"

    def records(self, file: SourceFile) -> Iterator[tuple[int, Mapping[str, Any] | Bad]]:
        for line in numbered_lines(file, _MOST_LINE):
            if isinstance(line, Bad):
                yield 0, line
            elif line.content.strip():
                record = record_of(line.content)
                place = f"{file.name}, line {line.number}"
                yield line.number, Bad(place, "bad_line", record) if isinstance(record, str) else record


class CsvPairs(PairFiles):
    """Pairs from comma-separated values (RFC 4180) in UTF-8, compressed or not, with the fields' names on top."""

    kind: Literal["csv"] = "csv"
    delimiter: str = Field(",", min_length=1, max_length=1)
    """What stands between two fields; ``"\\t"`` for a tab."""

    def records(self, file: SourceFile) -> Iterator[tuple[int, Mapping[str, Any] | Bad]]:
        faults: list[Bad] = []
        rows = csv.reader(_Rows(file, faults), delimiter=self.delimiter, strict=True)
        names: list[str] | None = None
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield number, Bad(f"{file.name}, line {number}", "bad_line", str(error))
                continue
            while faults:
                yield number, faults.pop()
            if row is None:
                return
            if names is None:
                names = row
            elif len(row) != len(names) and row:
                said = f"it has {len(row)} fields, and the table {len(names)}"
                yield number, Bad(f"{file.name}, line {number}", "bad_line", said)
            elif row:
                yield number, dict(zip(names, row, strict=True))


class _Rows:
    """The lines of a file as text; its faults go into a list."""

    def __init__(self, file: SourceFile, faults: list[Bad]) -> None:
        self._lines, self._faults = numbered_lines(file, _MOST_LINE), faults

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            line = next(self._lines)
            if not isinstance(line, Bad):
                return line.content.decode("utf-8", "replace")
            self._faults.append(line)


def _text(value: Any) -> str | None:
    """The field's value as text without white space around it; None if there is none in it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    # Lone surrogates, which JSON can spell, are no text.
    return value.strip().encode("utf-8", "replace").decode("utf-8")
