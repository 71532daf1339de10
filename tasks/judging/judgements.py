"""Judgements read back from spreadsheets."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from storage.errors import SourceError

VERDICTS = ("accept", "reject")
_NEEDED = ("id", "verdict")
_MOST_CELL = 1 << 24


class Judgement(NamedTuple):
    """What one judge says of one document."""

    document: str
    judge: str
    verdict: str
    """``accept``, ``reject``, or empty where only a label is given."""
    label: str
    place: str
    """File and line, for errors."""


def read_judgements(files: Sequence[tuple[str, Path]]) -> list[Judgement]:
    """The judgements in these files (name to show, path), each judge's of a document once; blank lines are none yet.

    A judge without a name is the file. Raises SourceError, naming file and line, for what cannot
    be understood and for a judge who says two things about one document.
    """
    found: dict[tuple[str, str], Judgement] = {}
    for name, path in files:
        for judgement in _read(name, path):
            key = (judgement.document, judgement.judge)
            before = found.setdefault(key, judgement)
            if (before.verdict, before.label) != (judgement.verdict, judgement.label):
                raise SourceError(
                    f"{judgement.place}: {judgement.judge!r} says {_said(judgement)} of document "
                    f"{judgement.document}, but {_said(before)} in {before.place}; correct one of the two"
                )
    return [found[key] for key in sorted(found)]


def _said(judgement: Judgement) -> str:
    return " ".join(repr(part) for part in (judgement.verdict, judgement.label) if part)


def _read(name: str, path: Path) -> Iterator[Judgement]:
    text = _text_of(name, path)
    header = text.split("\n", 1)[0]
    # Excel writes semicolons where the comma separates decimals, and tabs for "Unicode text".
    separator = max(",;\t", key=header.count)
    csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        if missing := [column for column in _NEEDED if column not in columns]:
            raise SourceError(
                f"{name}:1: no column {missing[0]!r} (there are: {', '.join(filter(None, columns)) or 'none'}); "
                "keep the first line of sample.csv"
            )
        before = reader.line_num
        for cells in reader:
            place, before = f"{name}:{before + 1}", reader.line_num
            if any(cell.strip() for cell in cells):
                judgement = _judgement(dict(zip(columns, cells, strict=False)), place, path.stem)
                if judgement is not None:
                    yield judgement
    except csv.Error as error:
        raise SourceError(f"{name}:{reader.line_num}: not a table of comma-separated values ({error})") from error


def _judgement(row: Mapping[str, str], place: str, default_judge: str) -> Judgement | None:
    """What a line says; None if it is not filled in yet."""
    verdict = row.get("verdict", "").strip().lower()
    label = _plain(row.get("label", ""))
    if not verdict and not label:
        return None
    if verdict and verdict not in VERDICTS:
        raise SourceError(f"{place}: verdict {row['verdict'].strip()!r}; write accept or reject, or leave it empty")
    document = _plain(row["id"])
    if not document:
        raise SourceError(f"{place}: no id; each line needs the id that sample.csv has for the document")
    return Judgement(document, _plain(row.get("judge", "")) or default_judge, verdict, label, place)


def _plain(cell: str) -> str:
    """The cell without white space around it, and without the sign that keeps it from being a formula."""
    return cell.strip().removeprefix("'")


def _text_of(name: str, path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SourceError(f"{name}:{line}: the file is not UTF-8; save it as “CSV UTF-8”") from error


class Consensus(NamedTuple):
    """What the judges of a document say together."""

    verdict: str
    """``accept`` or ``reject``; empty where as many say the one as the other, or none says either."""
    label: str
    """The label that most give; empty where there is none, or no one label leads."""
    judges: int


def consensus(judgements: Sequence[Judgement]) -> dict[str, Consensus]:
    """By document: what most of its judges say."""
    by_document: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_document[judgement.document].append(judgement)
    return {
        document: Consensus(_leader([j.verdict for j in said]), _leader([j.label for j in said]), len(said))
        for document, said in sorted(by_document.items())
    }


def _leader(said: Sequence[str]) -> str:
    """What is said most often, if one thing is."""
    counted = sorted(((said.count(word), word) for word in set(said) if word), reverse=True)
    if not counted or (len(counted) > 1 and counted[0][0] == counted[1][0]):
        return ""
    return counted[0][1]
