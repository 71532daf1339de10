"""Which documents a step of a training learnt from: what to look at where the loss rose."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.lineage import lineage
from flows.report import table
from storage.artifact import State
from storage.builds import Build
from storage.code import changed_symbols, code_of
from storage.errors import UserError
from storage.store import Store
from tasks.context import PlainWorld, RunContext
from tasks.registry import TASKS, task_class
from tasks.training import Training

Json = dict[str, Any]
_ORDERS = ("model.data.", "model.checkpoints.stem", "model.request", "storage.mixing", "storage.shards")
"""Beginnings of the modules that say which rows come when."""


def batch_of_step(store: Store, digest: str, step: int) -> Json:
    """The documents in the batch of a step (1, 2 …) of the training that made a model, with where they are from.

    Raises UserError for what no training of a known kind made, or a step that it did not have.
    """
    build = _training(store, digest)
    task = _task(build)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        inputs = {reference: store.open(build.identity.inputs[slot]) for slot, reference in task.inputs().items()}
        seed = build.identity.seed or 0
        context = RunContext(output=place, scratch=place, world=PlainWorld(place), inputs=inputs, seed=seed)
        request = task.request(context)
    from model.data.training_data import make_data

    data = make_data(request)
    steps = int(build.metrics.get("steps", data.steps))  # fewer than were asked for where it stopped early
    if not 1 <= step <= steps:
        raise UserError(f"--step {step}: {digest[:12]} was trained for {steps:,} steps, counted from 1")
    rows = request.batch_sequences
    ids = list(dict.fromkeys(data.order.documents((step - 1) * rows, rows)))
    known = _rows_of(store, digest, build, ids)
    return {
        "artifact": digest,
        "step": step,
        "tokens": [(step - 1) * request.batch_tokens, step * request.batch_tokens],
        "documents": [{"id": name, **known.get(name, {"url": None, "source": None})} for name in ids],
        "code_changed": any(name.startswith(_ORDERS) for name in _changed(build)),
    }


def batch_text(content: Json) -> str:
    """It in words, for people."""
    first, last = content["tokens"]
    found = content["documents"]
    lines = [f"step {content['step']:,}: {len(found)} documents in tokens {first:,} to {last:,}"]
    if content["code_changed"]:
        lines.append("the code that orders the data has changed since: the training may have seen others")
    rows = [("document", "address", "source")]
    rows += [(row["id"], row["url"] or "not known", row["source"] or "") for row in found]
    return "\n".join([*lines, table(rows)])


def _training(store: Store, digest: str) -> Build:
    for build in reversed(store.builds_of(digest)):
        name = build.identity.task
        if name in TASKS and issubclass(task_class(name), Training) and build.kind != State.kind:
            return build
    raise UserError(f"--step: {digest[:12]} is of kind {store.manifest(digest).kind}; only what was trained has steps")


def _task(build: Build) -> Training:
    """The task as its settings were, with the slots for names of its inputs."""
    name = f"{build.recipe}/{build.step}"
    try:
        task = task_class(build.identity.task).model_validate(_named(build.identity.settings))
    except ValidationError as error:
        raise UserError(f"--step: {name} was made by another version, with other settings") from error
    assert isinstance(task, Training)
    return task


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return value["input"] if value.keys() == {"input"} else {name: _named(item) for name, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value


def _changed(build: Build) -> Sequence[str]:
    """Modules that the training ran and whose code is another now."""
    task = task_class(build.identity.task)
    return list(changed_symbols(build.identity.code, code_of(task.__module__, *task.also_runs)))


def _rows_of(store: Store, digest: str, build: Build, ids: Sequence[str]) -> dict[str, Json]:
    """Address and source by id, from the documents (or examples) that the data were made of, where they still are."""
    import pyarrow.parquet as pq

    found: dict[str, Json] = {}
    for artifact in dict.fromkeys(_texts(lineage(store, digest, build))):
        if not store.is_whole(artifact):
            continue
        opened = store.open(artifact)
        for name in opened.names("*.parquet"):
            file = pq.ParquetFile(opened.path(name))
            columns = [column for column in ("id", "url", "source") if column in file.schema_arrow.names]
            if "id" not in columns:
                continue
            rows = pq.read_table(opened.path(name), columns=columns, filters=[("id", "in", list(ids))])
            for row in rows.to_pylist():
                found.setdefault(row["id"], {"url": row.get("url"), "source": row.get("source")})
    return found


def _texts(node: Json) -> Iterator[str]:
    """The artifacts that a training's shards were made of, and its examples."""
    for source in node["inputs"].values():
        if source["kind"] == "examples":
            yield source["artifact"]
        if source["kind"] == "shards":
            yield from (made["artifact"] for made in source["inputs"].values() if made["kind"] == "documents")
