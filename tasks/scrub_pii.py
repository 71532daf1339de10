"""Replace personal data and secrets, or drop the documents that hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import pyarrow as pa
from pydantic import Field, model_validator

from storage.artifact import JsonValue
from storage.corpus import Documents
from tasks.batches import batches
from tasks.pii.entities import Entity, find_entities, fingerprint
from tasks.pii.find import BATCH_BYTES, find_in
from tasks.pii.keys import fingerprint as fingerprint_of_key
from tasks.pii.keys import read_key
from tasks.pii.kinds import KINDS, Found, Kind, resolve
from tasks.pii.replace import Replacer, Style, hidden_in_sample, spliced
from tasks.rows import RowWork, Worked
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Outside, Result, Task, World

_SAMPLE_BEFORE, _SAMPLE_AFTER = 200, 400
"""Bytes of its surroundings that a sample shows."""


class ScrubPii(Task):
    """Replace personal data and secrets in the text of documents: by placeholders, masks or pseudonyms.

    What is found is counted as ``replaced.KIND``; see ``tasks/pii`` for each kind's forms, where
    they are published, and what is left alone. Only the text is scrubbed, not the address or title
    of a document. Time grows linearly with the text, memory with the partition.
    """

    makes = Documents

    documents: Input[Documents]
    """Documents to scrub."""
    kinds: tuple[Kind, ...] = Field(KINDS, min_length=1)
    """What to look for: by default all kinds, each of which is precise on documentation (see benchmarks)."""
    replace: Style | dict[Kind | Entity, Style] = "placeholder"
    """What to do with what is found, for all kinds or by kind: ``{email: pseudonym, private_key: drop}``.
    ``placeholder``: ``<EMAIL>``; ``mask``: ``j***@e******.org``; ``pseudonym``: ``<EMAIL_`` and 16
    hexadecimal digits, the same for the same address under the same key; ``drop``: the document is dropped
    for the reason ``pii.KIND``. A kind that is not named gets its placeholder."""
    placeholders: dict[Kind | Entity, str] = Field({})
    """What stands for a kind, where it is not to be ``<EMAIL>``, ``<PHONE>`` (mobile numbers too), ``<IP_ADDRESS>``,
    ``<MAC_ADDRESS>``, ``<CREDIT_CARD>``, ``<IBAN>``, ``<SSN>``, ``<ID_NUMBER>``, ``<PASSPORT>``, ``<CREDENTIALS>``,
    ``<API_KEY>``, ``<PRIVATE_KEY>`` or an entity's name."""
    key_variable: Annotated[str, Outside()] = "ATHANOR_PII_KEY"
    """Environment variable that holds the secret key of pseudonyms (16 bytes or more). The key is never stored:
    only a fingerprint that does not give it away enters the step's identity, so that another key rebuilds."""
    key_file: Annotated[str | None, Outside()] = None
    """File that holds the key instead, relative to the recipe."""
    entities: tuple[Entity, ...] = ()
    """Names and places to replace too, by Presidio with a spaCy model (``pip install 'athanor[ner]'``)."""
    spacy_models: dict[str, str] = Field({})
    """spaCy model by language of the documents (``{en: en_core_web_sm}``): an installed package, or a folder relative
    to the recipe. A document without a language is read by the first; one in a language without a model by none."""

    @model_validator(mode="after")
    def _entities_have_a_model(self) -> Self:
        if self.entities and not self.spacy_models:
            raise ValueError("entities need spacy_models, such as {en: en_core_web_sm}")
        return self

    def outside(self, world: World) -> JsonValue:
        """Fingerprints of the key, if there are pseudonyms, and of the models, if there are entities."""
        seen: dict[str, JsonValue] = {}
        if self._needs_key():
            seen["key"] = fingerprint_of_key(read_key(self.key_variable, self.key_file, world.folder))
        if self.entities:
            seen["models"] = {code: fingerprint(name, world.folder) for code, name in self.spacy_models.items()}
        return seen or None

    def run(self, context: Context) -> Result:
        documents, folder = context.open(self.documents), context.world.folder
        self.outside(context.world)  # says what is missing before any work is done
        key = read_key(self.key_variable, self.key_file, folder) if self._needs_key() else b""
        return result_of("scrub_pii", context.map_rows(Scrub(self, key, folder), documents.partitions))

    def _needs_key(self) -> bool:
        return "pseudonym" in (self.replace.values() if isinstance(self.replace, dict) else (self.replace,))


@dataclass(frozen=True)
class Scrub(RowWork):
    """A task with what it needs from outside; handed to workers, written nowhere."""

    task: ScrubPii
    key: bytes
    folder: Path

    def __repr__(self) -> str:
        return f"Scrub({self.task!r})"

    @property
    def wanted(self) -> frozenset[str]:
        """Kinds and entities that are not left as they are."""
        return frozenset({*self.task.kinds, *self.task.entities})

    @property
    def replacer(self) -> Replacer:
        replace = self.task.replace
        styles = replace if isinstance(replace, dict) else dict.fromkeys(self.wanted, replace)
        return Replacer(
            {str(kind): style for kind, style in styles.items()},
            {str(kind): text for kind, text in self.task.placeholders.items()},
            self.key,
        )

    def model_for(self, language: str | None) -> str | None:
        """The spaCy model for a document in this language."""
        models = self.task.spacy_models
        if not self.task.entities:
            return None
        return models.get(language.partition("-")[0]) if language else next(iter(models.values()))

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Scrub the documents in their order."""
        texts = rows.column("text").cast(pa.binary()).to_pylist()
        kept: list[int] = []
        tally, wanted, replacer = Tally(), self.wanted, self.replacer
        searched = zip(rows.column("url").to_pylist(), _found(self, rows, texts, guard), strict=True)
        for row, (url, found) in enumerate(searched):
            tally.row, data = row, texts[row]
            if isinstance(found, DocumentLost):
                tally.drop(found.reason, len(data), url, "[a text that cannot be searched is not shown]")
                continue
            chosen = [item for item in found if item.kind in wanted]
            bad = next((item for item in chosen if replacer.style(item.kind) == "drop"), None)
            if bad:
                tally.drop(f"pii.{bad.kind}", len(data), url, partial(_around, data, found, bad, None))
                continue
            if chosen:
                texts[row] = spliced(data, chosen, [replacer(item, _text(data, item)) for item in chosen])
                _count(tally, url, data, found, chosen, replacer)
            tally.keep(len(data), texts[row].decode())
            kept.append(row)
        scrubbed = pa.array((texts[row] for row in kept), pa.binary()).cast(pa.string())
        place = rows.schema.get_field_index("text")
        rest = rows.remove_column(place)
        rest = rest if len(kept) == len(rest) else rest.take(pa.array(kept, pa.int64()))
        return Worked(rest.add_column(place, rows.schema.field("text"), scrubbed), kept, tally)


def _found(scrub: Scrub, table: pa.Table, texts: Sequence[bytes], guard: Guard) -> Iterator[list[Found] | DocumentLost]:
    """For each document what is in it, or that it cost a worker its life.

    Documents are searched, and guarded, many at a time; those of a batch that is lost one by one.
    """
    ids, languages = table.column("id").to_pylist(), table.column("language").to_pylist()
    for rows in batches(range(len(texts)), lambda row: len(texts[row]), BATCH_BYTES):
        first = ids[rows[0]]
        try:
            name = first if len(rows) == 1 else f"{first} and the {len(rows) - 1:,} documents after it"
            batch: list[list[Found] | DocumentLost] = guard(name, find_in, [texts[row] for row in rows])
        except DocumentLost:
            batch = [_or_lost(guard, ids[row], _find_one, texts[row]) for row in rows]
        for row, found in zip(rows, batch, strict=True):
            model = scrub.model_for(languages[row])
            if model is not None and not isinstance(found, DocumentLost):
                entities = _or_lost(
                    guard, ids[row], find_entities, texts[row], model, scrub.folder, scrub.task.entities
                )
                yield entities if isinstance(entities, DocumentLost) else resolve([*found, *entities])
            else:
                yield found


def _find_one(text: bytes) -> list[Found]:
    return find_in([text])[0]


def _or_lost(guard: Guard, document: str, function: Any, *arguments: Any) -> list[Found] | DocumentLost:
    try:
        found: list[Found] = guard(document, function, *arguments)
    except DocumentLost as lost:
        return lost
    return found


def _text(data: bytes, item: Found) -> str:
    return data[item.start : item.end].decode()


def _count(tally: Tally, url: str, data: bytes, found: list[Found], chosen: list[Found], replacer: Replacer) -> None:
    """Count what was replaced, and offer a sample of each kind."""
    counts = Counter(item.kind for item in chosen)
    for kind, count in counts.items():
        tally.count(f"replaced.{kind}", count)
        first = next(item for item in chosen if item.kind == kind)
        after = _around(data, found, first, (replacer, frozenset(chosen)))
        tally.show(f"scrubbed: {kind}", partial(_around, data, found, first, None), after, url)


def _around(data: bytes, found: list[Found], item: Found, replaced: tuple[Replacer, frozenset[Found]] | None) -> str:
    """The surroundings of an item for a person to read, with everything found in them hidden or replaced.

    What is found is never shown itself, be it replaced or not: samples are seen by more people than corpora.
    """
    start, end = max(0, item.start - _SAMPLE_BEFORE), item.end + _SAMPLE_AFTER
    start = min([start, *(other.start for other in found if other.start < start < other.end)])
    inside = [other for other in found if start <= other.start < end]
    end = max([end, *(other.end for other in inside)])
    moved = [Found(other.kind, other.start - start, other.end - start) for other in inside]
    shown = [
        replaced[0](other, _text(data, other))
        if replaced and other in replaced[1]
        else hidden_in_sample(other.kind, _text(data, other))
        for other in inside
    ]
    return spliced(data[start:end], moved, shown).decode(errors="ignore")
