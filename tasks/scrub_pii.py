"""Replace personal data by typed placeholders."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import DOCUMENTS_SCHEMA, Documents, read_table, table_of, write_table
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Task
from tasks.text.pii import KINDS, PLACEHOLDERS, Kind, scrub


class ScrubPii(Task):
    """Replace e-mail addresses, telephone numbers, IP addresses, card and Chinese identity numbers.

    What is found is counted as ``replaced.KIND``. See ``tasks/pii.py`` for what is left alone, and why.
    Time and memory grow linearly with the text.
    """

    makes = Documents

    documents: Input[Documents]
    """Documents to scrub."""
    kinds: tuple[Kind, ...] = Field(KINDS, min_length=1)
    """What to replace."""
    placeholders: dict[Kind, str] = Field({})
    """What to put in its place, where it is not to be ``<EMAIL>``, ``<PHONE>`` (mobile numbers too),
    ``<IP_ADDRESS>``, ``<CREDIT_CARD>`` or ``<ID_NUMBER>``."""

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        return result_of("scrub_pii", context.map_partitions(scrub_partition, self, documents.partitions))


def scrub_partition(task: ScrubPii, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Scrub the documents of one partition, in their order."""
    tally, rows = Tally(), []
    placeholders = {**PLACEHOLDERS, **task.placeholders}
    for document in read_table(source).to_pylist():
        text, size = document["text"], len(document["text"].encode())
        try:
            scrubbed, replaced = guard(document["id"], scrub, text, task.kinds, placeholders)
        except DocumentLost as lost:
            tally.drop(lost.reason, size, document["url"], text)
            continue
        tally.keep(size, scrubbed)
        tally.counted.update({f"replaced.{kind}": count for kind, count in replaced.items()})
        if replaced:
            start = max(0, _first_difference(text, scrubbed) - 200)
            tally.show("scrubbed", text[start : start + 600], scrubbed[start : start + 600])
        rows.append({**document, "text": scrubbed})
    write_table(table_of(rows, DOCUMENTS_SCHEMA), output)
    return tally.stats()


def _first_difference(one: str, other: str) -> int:
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
