"""A stratified sample of documents, and the spreadsheet in which people judge it."""

from __future__ import annotations

import csv
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from storage.corpus import Documents
from storage.identity import digest_of_text

COLUMNS = ("id", "url", "source", "language", "decision", "reasons", "text", "verdict", "label", "judge")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula, as some do in full width too."""
_READ = ("id", "source", "language", "tags")


class Stratum(NamedTuple):
    """Documents that are alike in what was decided and where they come from."""

    reason: str
    """The first of the document's tags: the rule that would drop it; empty for documents that are kept."""
    source: str
    language: str


@dataclass
class Population:
    """What the documents are, without their texts: counts, and the sample."""

    sizes: Counter[Stratum] = field(default_factory=Counter)
    """Documents of each stratum."""
    tagged: Counter[str] = field(default_factory=Counter)
    """Documents with each tag, wherever it stands among the others."""
    drawn: dict[str, Stratum] = field(default_factory=dict)
    """Ids of the sampled documents, by stratum and then in the order of the draw."""
    known: dict[str, tuple[Stratum, tuple[str, ...]]] = field(default_factory=dict)
    """Stratum and tags of each document that was asked about."""

    @property
    def kept(self) -> int:
        """Documents without a tag."""
        return sum(size for stratum, size in self.sizes.items() if not stratum.reason)


def survey(
    documents: Documents, by: Collection[str], per_stratum: int, most: int, asked: Collection[str]
) -> Population:
    """Count the strata and draw ``per_stratum`` documents of each: fewer where all together pass ``most``.

    The draw goes by a digest of each document's id: it needs no seed, does not depend on order or
    partitions, and documents that are added later push few out. ``asked`` are ids to look up.
    """
    population = Population()
    smallest: dict[Stratum, list[tuple[int, str]]] = defaultdict(list)
    wanted = set(asked)
    for table in documents.tables(_READ):
        for row in table.to_pylist():
            tags = tuple(row.get("tags") or ())  # documents that no filter has seen may lack the column
            stratum = Stratum(
                tags[0] if tags else "",
                row["source"] if "source" in by else "",
                (row.get("language") or "") if "language" in by else "",
            )
            population.sizes[stratum] += 1
            population.tagged.update(set(tags))
            if row["id"] in wanted:
                population.known[row["id"]] = stratum, tags
            # The heap's smallest is the largest digest kept, hence the sign.
            place = -int(digest_of_text(f"quality\n{row['id']}")[:15], 16)
            heap = smallest[stratum]
            if len(heap) < per_stratum:
                heapq.heappush(heap, (place, row["id"]))
            elif place > heap[0][0]:
                heapq.heapreplace(heap, (place, row["id"]))
    each = max(1, min(per_stratum, most // max(len(smallest), 1)))
    for stratum in sorted(smallest):
        for _, document in sorted(smallest[stratum], reverse=True)[:each]:
            population.drawn[document] = stratum
    return population


def texts_of(documents: Documents, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """The rows of these documents, by id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array(sorted(wanted), pa.string())
    found = {}
    for table in documents.tables(["id", "text", "url", "source", "language", "tags"]):
        for row in table.filter(pc.is_in(table["id"], ids)).to_pylist():
            found[row["id"]] = row
    return found


def write_sample(path: Path, drawn: Iterable[str], rows: Mapping[str, Mapping[str, Any]], characters: int) -> None:
    """Write the spreadsheet: UTF-8 with a mark (so that Excel knows), no cell that could be a formula."""
    with path.open("w", encoding="utf-8-sig", newline="", errors="replace") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for document in drawn:
            row = rows[document]
            tags = row.get("tags") or []
            cells = [
                *(row["id"], row["url"], row["source"], row.get("language") or ""),
                *("drop" if tags else "keep", ", ".join(tags), shortened(row["text"], characters)),
                *("", "", ""),
            ]
            writer.writerow([as_cell(cell) for cell in cells])


def shortened(text: str, characters: int) -> str:
    """The text's start, and how much is left out."""
    if len(text) <= characters:
        return text
    return f"{text[:characters]} […{len(text) - characters:,} more characters]"


def as_cell(text: str) -> str:
    """The text as a spreadsheet shows it and nothing more: no formula, no control characters."""
    clean = "".join(character for character in text if character >= " " or character in "\n\t")
    return f"'{clean}" if clean.lstrip(" \n").startswith(_FORMULA) else clean
