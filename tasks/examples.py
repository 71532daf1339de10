"""Prompt and response pairs for tuning, with a validation split."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from storage.artifact import JsonValue
from storage.corpus import EXAMPLES_SCHEMA, Examples, is_validation, table_of, write_table
from storage.errors import SourceError, StepFailed
from storage.identity import digest_of_text
from tasks.sources.base import fingerprints, named
from tasks.sources.pair_files import CsvPairs, JsonlPairs
from tasks.sources.pairs import Pair, PydocPairs, TitlePairs
from tasks.tally import FORGOTTEN
from tasks.task import Context, Result, Sample, Task, World

AnyPairs = Annotated[PydocPairs | JsonlPairs | CsvPairs | TitlePairs, Field(discriminator="kind")]
"""The settings of a source of pairs, told apart by ``kind``."""

_SHOWN = 4


class MakeExamples(Task):
    """Collect prompt and response pairs, each once, and split them.

    The split follows from ``document_id``: an example drawn from a page is on that page's side (for
    the same ``validation_fraction`` as in ``shard``), others by their prompt, so that one question
    is never on both sides. Memory holds all examples.
    """

    makes = Examples
    forgets = "pairs"

    sources: list[AnyPairs] = Field(min_length=1)
    """Where the pairs come from."""
    template: str = "Question: {prompt}\nAnswer: "
    """The text before a response; ``{prompt}`` stands for the source's prompt."""
    validation_fraction: float = Field(0.05, ge=0, lt=1)
    """The share of documents, or of other prompts, that is held out."""

    @field_validator("template")
    @classmethod
    def _has_place_for_the_prompt(cls, template: str) -> str:
        if "{prompt}" not in template:
            raise ValueError("the template needs {prompt}, where the prompt is put")
        return template

    @model_validator(mode="after")
    def _name_sources(self) -> Self:
        object.__setattr__(self, "sources", named(self.sources))
        return self

    def outside(self, world: World) -> JsonValue:
        """Fingerprints of the sources by name, and the limit if there is one."""
        return fingerprints(self.sources, world)

    def run(self, context: Context) -> Result:
        rows: dict[str, dict[str, Any]] = {}
        dropped: Counter[str] = Counter()
        for source in self.sources:
            for item in source.pairs(context):
                if not isinstance(item, Pair):
                    dropped[item.reason] += 1
                    continue
                row = self._row(source.name, item)
                if context.takedowns.concern_pair([row["id"], row["document_id"]], row["prompt"], row["response"]):
                    dropped[FORGOTTEN] += 1
                    continue
                known = digest_of_text(f"{row['prompt']}\n{row['response']}")
                if known in rows:
                    dropped["repeated"] += 1
                rows.setdefault(known, row)
                context.progress(len(rows), None, "examples", source.name)
        if not rows:
            raise SourceError(f"examples: no pair came from {', '.join(source.name for source in self.sources)}")
        return self._write(context, list(rows.values()), dropped)

    def _row(self, source: str, pair: Pair) -> dict[str, Any]:
        prompt = self.template.replace("{prompt}", pair.prompt)
        return {
            "id": digest_of_text(f"{source}\n{pair.prompt}\n{pair.response}")[:32],
            "document_id": pair.document_id,
            "prompt": prompt,
            "response": pair.response,
            "source": source,
        }

    def _write(self, context: Context, rows: list[dict[str, Any]], dropped: Counter[str]) -> Result:
        rows.sort(key=lambda row: str(row["id"]))
        held_out = [row for row in rows if is_validation(row["document_id"], self.validation_fraction)]
        train = [row for row in rows if not is_validation(row["document_id"], self.validation_fraction)]
        if not train:
            raise StepFailed(
                f"examples: all {len(rows)} pairs are held out for validation; "
                f"lower validation_fraction (now {self.validation_fraction}) or give more"
            )
        for name, part in (("train", train), ("validation", held_out)):
            write_table(table_of(part, EXAMPLES_SCHEMA), context.output / f"{name}.parquet")
        metrics: dict[str, float] = {
            "examples": len(rows),
            "train.examples": len(train),
            "validation.examples": len(held_out),
            "validation_empty": float(not held_out),
            "response_characters_mean": sum(len(row["response"]) for row in rows) / len(rows),
        }
        metrics |= {f"dropped.{reason}": count for reason, count in sorted(dropped.items())}
        names = {"before_is": "prompt", "after_is": "response"}
        samples = [
            Sample(row["source"], row["prompt"][:1000], row["response"][:1000], **names) for row in train[:_SHOWN]
        ]
        return Result(
            counts={"train": len(train), "validation": len(held_out)},
            metrics=metrics,
            headline=f"{len(rows):,} examples",
            samples=samples,
        )
