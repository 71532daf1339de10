"""New texts made from documents: synonyms, and translations there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from storage.artifact import Artifact, JsonValue
from storage.corpus import DOCUMENTS_SCHEMA, Documents, derived_id, read_table, table_of, write_table
from storage.errors import SourceError
from storage.identity import canonical_json
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Task, World
from tasks.variants.augmenter import Variant, Work, opened
from tasks.variants.lexicon import Lexicon
from tasks.variants.settings import AnyMethod, Closeness, Synonyms

_SECONDS_PER_DOCUMENT = 900.0


class Augment(Task):
    """Make new texts from documents, and keep those that stay close to their source without being equal to it.

    A new text is marked in its ``metadata`` (``{"synthetic": {"of": ID, "method": …, "similarity": …}}``),
    its ``url`` is the source's with ``#synthetic-1`` behind it, and its id lies on its source's side
    of every validation split. All else is its source's. Time grows linearly with the text, but for
    BERTScore, which compares every token of a document with every other.
    """

    makes = Documents
    libraries = ("torch", "transformers")
    uses_seed = True

    documents: Input[Documents]
    """Documents to make new ones from."""
    methods: tuple[AnyMethod, ...] = Field(min_length=1)
    """How new texts are made, each from the documents as they are."""
    closeness: Closeness
    """Which new texts are kept."""
    keep_originals: bool = True
    """Whether the documents themselves are in the output, each before the texts made from it."""

    def outside(self, world: World) -> JsonValue:
        """Digests of the lexicons."""
        return [world.digest_of_file(path) for path in self._lexicons(world)]

    def _lexicons(self, world: World) -> list[Path]:
        paths = [world.folder / method.lexicon for method in self.methods if isinstance(method, Synonyms)]
        for path in paths:
            if not path.is_file():
                raise SourceError(f"augment: lexicon {path}: there is no such file; correct `lexicon`")
        return paths

    def run(self, context: Context) -> Result:
        """Raises SourceError for a lexicon or a network that cannot be read, StepFailed if no document is left."""
        documents = context.open(self.documents)
        folder = context.scratch / "lexicons"
        folder.mkdir(exist_ok=True)
        lexicons: list[Path] = []
        for path in self._lexicons(context.world):
            # A copy beside the work: what a partition was made with is what its key says.
            copy = folder / f"{len(lexicons)}{path.suffix}"
            copy.write_bytes(path.read_bytes())
            Lexicon.read(copy)
            lexicons.append(copy)
        networks = {slot: context.open(reference) for slot, reference in self.inputs().items() if slot != "documents"}
        work = Work(
            methods=self.methods,
            closeness=self.closeness,
            seed=context.seed,
            device=context.resources.device,
            lexicons=tuple(str(path) for path in lexicons),
            networks=tuple((slot, str(network.folder.resolve())) for slot, network in networks.items()),
        )
        made = context.map_partitions(
            augment_partition,
            (work, self.keep_originals),
            documents.partitions,
            depends_on=[*networks.values(), Artifact.of_folder(folder)],
            seconds_per_document=_SECONDS_PER_DOCUMENT,
        )
        result = result_of("augment", made)
        new = sum(count for name, count in result.metrics.items() if name.startswith("made."))
        return replace(result, headline=f"{result.metrics['documents_out']:,.0f} documents, {new:,.0f} of them new")


def augment_partition(payload: tuple[Work, bool], source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Write the documents of one partition, if they are kept, and behind each what was made of it."""
    work, keep_originals = payload
    tally = Tally()
    rows: list[dict[str, Any]] = []
    augmenter = opened(work)
    for document in read_table(source).to_pylist():
        tally.count("documents_in")
        tally.count("bytes_in", len(document["text"].encode()))
        try:
            variants = guard(document["id"], augmenter.variants, document)
        except DocumentLost as lost:
            tally.count(f"lost.{lost.reason}")
            variants = []
        kept = [variant for variant in variants if variant.rejected is None]
        new = [_row(document, number, variant) for number, variant in enumerate(kept, 1)]
        for row in [document, *new] if keep_originals else new:
            tally.count("documents_out")
            tally.count("bytes_out", len(row["text"].encode()))
            rows.append(row)
        for variant in variants:
            _count(tally, document, variant)
    write_table(table_of(rows, DOCUMENTS_SCHEMA), output)
    return tally.stats()


def _count(tally: Tally, document: dict[str, Any], variant: Variant) -> None:
    """Count a new text, and show it beside its source."""
    kept = variant.rejected is None
    tally.count(f"made.{variant.method}" if kept else f"rejected.{variant.method}.{variant.rejected}")
    if variant.text is not None:
        title = variant.method if kept else f"{variant.method}: rejected, {variant.rejected}"
        after_is = f"similarity {variant.similarity:g}"
        tally.show(title, document["text"], variant.text, document["url"], after_is=after_is)


def _row(document: dict[str, Any], number: int, variant: Variant) -> dict[str, Any]:
    metadata = json.loads(document["metadata"]) if document["metadata"] else {}
    metadata["synthetic"] = {"of": document["id"], "method": variant.method, "similarity": variant.similarity}
    return {
        **document,
        "id": derived_id(document["id"], number),
        "url": f"{document['url']}#synthetic-{number}",
        "text": variant.text,
        "metadata": canonical_json(metadata),
    }
