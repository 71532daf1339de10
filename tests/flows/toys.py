"""Small tasks for tests of recipes, plans and runs: real tasks, only quick ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from storage.artifact import Adapter, JsonValue, Model, Report
from storage.corpus import Documents, Examples, Pages, Partition, read_table, table_of, write_table
from storage.errors import SourceError, StepFailed
from storage.shards import Shards
from tasks.task import Context, Guard, Input, Kind, Outside, Result, Sample, Settings, Task, World


class Fetch(Task):
    """One page per line of the text files in a folder; every file is a partition."""

    makes: ClassVar[Kind] = Pages
    grows: ClassVar[bool] = True

    folder: Annotated[str, Outside()] = "texts"

    def _files(self, world: World) -> list[Path]:
        files = sorted((world.folder / self.folder).glob("*.txt"))
        if not files:
            raise SourceError(f"{self.folder}: no text files in it")
        return files[: world.limit]

    def outside(self, world: World) -> JsonValue:
        return [[path.name, world.digest_of_file(path)] for path in self._files(world)]

    def run(self, context: Context) -> Result:
        seen = {} if context.previous is None else json.loads(context.previous.path("seen.json").read_text())
        refresh = max(seen.values(), default=0) + 1
        pages = 0
        for number, path in enumerate(self._files(context.world)):
            rows = []
            for line in path.read_text().splitlines():
                seen.setdefault(line, refresh)
                row: dict[str, Any] = {"id": f"{path.name}:{line}", "url": line, "content": line.encode()}
                row |= {"content_type": "text/plain", "source": "toys", "first_seen": seen[line]}
                rows.append(row | {"license": None, "collected_at": None})
            pages += len(rows)
            write_table(table_of(rows, Pages.schema), context.output / f"{number:05}.parquet")
        (context.output / "seen.json").write_text(json.dumps(seen, sort_keys=True))
        return Result(counts={"pages": pages}, metrics={"pages": pages}, headline=f"{pages} pages")


class Clean(Task):
    """The pages' text, lower-cased if asked for."""

    makes: ClassVar[Kind] = Documents
    libraries: ClassVar[tuple[str, ...]] = ("pyarrow",)

    pages: Input[Pages]
    letters: Literal["as_they_are", "lower"] = "as_they_are"

    def run(self, context: Context) -> Result:
        pages = context.open(self.pages)
        results = context.map_partitions(clean_partition, self, pages.partitions)
        rows = sum(result.stats["documents"] for result in results)
        metrics = {"documents_in": rows, "documents_out": rows}
        return Result({"documents": rows}, metrics, f"{rows} documents", [Sample("first", "<b>one</b>", "one")])


def clean_partition(task: Clean, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    rows = []
    for row in read_table(source).to_pylist():
        text = row["content"].decode()
        document = {"id": row["id"], "url": row["url"], "source": row["source"], "first_seen": row["first_seen"]}
        document["text"] = text.lower() if task.letters == "lower" else text
        rows.append(document | {"language": None, "license": None, "metadata": None})
    write_table(table_of(rows, Documents.schema), output)
    return {"documents": len(rows)}


class Keep(Task):
    """Documents of at least so many letters."""

    makes: ClassVar[Kind] = Documents

    documents: Input[Documents]
    letters: int = Field(1, ge=0)
    words: list[str] = Field(default_factory=list)
    fraction: float = Field(1.0, gt=0, le=1)

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        kept = 0
        samples = []
        for partition in documents.partitions:
            table = read_table(partition.path)
            rows = [row for row in table.to_pylist() if len(row["text"]) >= self.letters]
            dropped = [row for row in table.to_pylist() if len(row["text"]) < self.letters]
            samples += [Sample("dropped: short", row["text"], place=row["url"]) for row in dropped[:1]]
            kept += len(rows)
            write_table(table_of(rows, Documents.schema), context.output / partition.name)
        if not kept:
            raise StepFailed("keep: no documents left; lower `letters`")
        short = documents.rows - kept
        metrics: dict[str, float] = {"documents_in": documents.rows, "documents_out": kept, "dropped.short": short}
        return Result({"documents": kept}, metrics, f"{kept} documents", samples)


class Schedule(Settings):
    """Settings inside settings."""

    rate: float = Field(1e-3, gt=0)
    warmup: int = 10


class Weighted(Settings):
    """One part of a mixture."""

    documents: Input[Documents]
    weight: float = 1.0


class Train(Task):
    """A model that counts letters."""

    makes: ClassVar[Kind] = Model
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    data: Input[Documents] | list[Weighted]
    schedule: Schedule = Schedule()
    steps: int = Field(3, ge=1)
    base: Input[Model | Adapter] | None = None

    def run(self, context: Context) -> Result:
        parts = [self.data] if isinstance(self.data, Input) else [part.documents for part in self.data]
        letters = sum(len(row["text"]) for part in parts for p in context.open(part).partitions for row in _rows(p))
        with context.metrics_file.open("a") as file:
            for step in range(self.steps):
                row = {"step": step, "loss": 3.0 / (step + 1), "learning_rate": self.schedule.rate}
                file.write(json.dumps(row) + "\n")
                context.progress(step + 1, self.steps, "steps")
        state = {"letters": letters, "seed": context.seed, "rate": self.schedule.rate}
        (context.output / "config.json").write_text(json.dumps(state))
        return Result(metrics={"letters": letters}, headline=f"{letters} letters")


class ShardsPart(Settings):
    """One part of a mixture of shards."""

    shards: Input[Shards]


class Fits(Task):
    """A model of shards, or grown from another model by examples."""

    makes: ClassVar[Kind] = Model

    model: Input[Model | Adapter] | None = None
    data: list[ShardsPart]
    examples: Input[Examples] | None = None

    def run(self, context: Context) -> Result:
        digests = [context.open(part.shards).digest for part in self.data]
        (context.output / "config.json").write_text(json.dumps({"data": digests, "tuned": self.model is not None}))
        return Result(headline="fits")


class Judge(Task):
    """A report about models."""

    makes: ClassVar[Kind] = Report
    names_its_inputs: ClassVar[bool] = True

    models: tuple[Input[Model | Adapter], ...] = Field(min_length=1)

    def run(self, context: Context) -> Result:
        letters = {m.name: json.loads(context.open(m).path("config.json").read_text())["letters"] for m in self.models}
        (context.output / "report.json").write_text(json.dumps(letters))
        return Result(headline=", ".join(f"{name} {count}" for name, count in letters.items()))


class Chance(Task):
    """Other bytes every time."""

    makes: ClassVar[Kind] = Documents

    documents: Input[Documents]

    def run(self, context: Context) -> Result:
        (context.output / "noise").write_bytes(os.urandom(8))
        return Result()


class Breaks(Task):
    """Fails as asked for."""

    makes: ClassVar[Kind] = Documents

    documents: Input[Documents]
    how: Literal["suspicious", "bug", "full_disk"] = "suspicious"

    def run(self, context: Context) -> Result:
        if self.how == "suspicious":
            raise StepFailed("breaks: nothing left; do otherwise")
        if self.how == "full_disk":
            raise OSError(28, "No space left on device")
        raise ZeroDivisionError("a bug")


def _rows(partition: Partition) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(partition.path).to_pylist()
    return rows


TOYS = {
    "fetch": "tests.flows.toys:Fetch",
    "clean": "tests.flows.toys:Clean",
    "keep": "tests.flows.toys:Keep",
    "train": "tests.flows.toys:Train",
    "fits": "tests.flows.toys:Fits",
    "judge": "tests.flows.toys:Judge",
    "chance": "tests.flows.toys:Chance",
    "breaks": "tests.flows.toys:Breaks",
}
