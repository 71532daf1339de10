"""Forgetting documents: recording the request, finding what holds them, and destroying that if asked to."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from flows.why import found_outside
from storage.artifact import FileEntry, Manifest
from storage.builds import Build
from storage.corpus import Pages, read_table, write_table
from storage.errors import UserError
from storage.maintenance import destroy
from storage.shards import ShardFile
from storage.store import Store
from storage.takedown import Request, Takedowns, record
from tasks.pages.index import INDEX, read_index, write_index

Json = dict[str, Any]

_TEXT = ("pages", "documents")
_LOOKED_AT = {
    "pages": ("url",),
    "documents": ("url", "text", "title"),
    "examples": ("source", "response", "prompt"),
}
"""By kind: the column that says where something is from, and those that requests to forget texts are about."""
_DATA = ("shards", "examples")
"""What models are trained on."""
_TRAINED = ("tokenizer", "classifier", "model", "adapter", "network", "state")
"""What is trained, on these or on documents; from it the documents cannot be taken out again."""
_SPLITS = ("train-", "validation-")
"""How the names of the files begin that hold tokens."""


@dataclass
class Holders:
    """What of a store holds documents with certain ids."""

    documents: dict[str, str] = field(default_factory=dict)
    """Id → URL, of the documents themselves."""
    objects: dict[str, FileEntry] = field(default_factory=dict)
    """The files that hold one of them, by digest."""
    artifacts: dict[str, Manifest] = field(default_factory=dict)
    """The artifacts with such a file, by digest."""


def forget(store: Store, asked: Request) -> Json:
    """Record the request; says which documents it concerns, and what was built with them.

    With ``purge``, what holds them is destroyed at once, but for models, which are only named.
    Raises UserError for a request that cannot be meant.
    """
    _check(asked)
    holders = holders_of(store, dict.fromkeys(asked.ids, "") | concerned(store, Takedowns([asked])))
    request = record(store.place, asked.model_copy(update={"found": tuple(sorted(holders.documents))}))
    content: Json = {
        "request": request.number,
        "documents": dict(sorted(holders.documents.items(), key=lambda item: item[1])),
        "built_with": built_with(store, holders),
    }
    if asked.purge:
        for recipe, step, digest in _latest_pages(store, holders):
            build = _succeed(store, recipe, step, digest, holders)
            if build is not None:
                store.record(build)
                store.append_history(recipe, step, build.key, build.artifact)
        entries = list(holders.objects.values())
        running = destroy(store, entries, set(holders.documents.values()), request.number)
        freed = sum(entry.bytes for entry in entries)
        content["destroyed"] = {"files": len(entries), "bytes": freed, "running": running}
    return content


def _check(asked: Request) -> None:
    if not (asked.urls or asked.domains or asked.ids or asked.texts):
        raise UserError("say what to forget: --url, --domain, --id or --match (or --list for what was asked for)")
    for domain in asked.domains:
        if "/" in domain or ":" in domain or not domain.strip("."):
            raise UserError(f"--domain {domain}: give a host alone, such as example.org; --url takes whole addresses")
    for text in asked.texts:
        if len("".join(text.split())) < 2:  # a Chinese name has two
            raise UserError(f"--match {text!r}: give at least two characters; this would be found nearly everywhere")


def concerned(store: Store, takedowns: Takedowns) -> dict[str, str]:
    """Id → URL of the pages and documents in the store, of all versions, that requests concern."""
    found: dict[str, str] = {}
    for kind, entry in _text_files(store):
        place, *texts = _LOOKED_AT[kind]
        table = _columns(store, entry, ["id", place, *texts])
        if table is None:
            continue
        held = takedowns.concern_texts(*(table[name] for name in texts)) if texts else None
        for row, (identity, url) in enumerate(zip(table["id"].to_pylist(), table[place].to_pylist(), strict=True)):
            if takedowns.concern_page(identity, url) or (held is not None and held[row]):
                found[_origin(identity)] = url
    return found


def holders_of(store: Store, documents: Mapping[str, str]) -> Holders:
    """All that holds one of these documents, or a text derived from one."""
    holders = Holders(dict(documents))
    holds: dict[str, bool] = {}
    for digest, manifest in _manifests(store):
        for name, entry in manifest.files.items():
            if entry.object not in holds:
                ids = _ids_in(store, manifest.kind, name, entry)
                holds[entry.object] = not documents.keys().isdisjoint(map(_origin, ids))
            if holds[entry.object]:
                holders.objects[entry.object] = entry
                holders.artifacts[digest] = manifest
    return holders


def built_with(store: Store, holders: Holders) -> list[str]:
    """Names of what holds the documents for training or was trained with them: ``RECIPE/STEP@NUMBER``.

    What is trained is followed from model to adapter; a tokenizer that knows their words taints no shards.
    """
    builds = list(store.builds())
    tainted = set(holders.artifacts)
    while True:
        grown = {
            build.artifact
            for build in builds
            if build.kind in _TRAINED and not tainted.isdisjoint(build.identity.inputs.values())
        } - tainted
        if not grown:
            break
        tainted |= grown
    shown = tainted & {build.artifact for build in builds if build.kind in (*_DATA, *_TRAINED)}
    return [
        f"{recipe}/{step}@{entry.number}"
        for recipe, step in store.steps()
        for entry in store.history(recipe, step)
        if entry.artifact in shown
    ]


def forgotten_text(store: Store, takedowns: Takedowns, metrics: Iterable[Mapping[str, float]]) -> str:
    """For the report of a run: how many documents its steps left out, and what was built with them before."""
    left_out = int(sum(of_step.get("dropped.forgotten", 0) for of_step in metrics))
    if not left_out:
        return ""
    known = {identity: "" for request in takedowns.requests for identity in request.found}
    return _sentence(left_out, built_with(store, holders_of(store, known)))


def said(content: Json) -> str:
    """What the command prints."""
    documents = content["documents"]
    lines = [f"request {content['request']} is recorded; every later run leaves these documents out"]
    lines += [f"  {identity}  {url}" for identity, url in list(documents.items())[:20]]
    lines += [f"  and {len(documents) - 20} more"] if len(documents) > 20 else []
    lines.append(_sentence(len(documents), content["built_with"]))
    if "destroyed" in content:
        lines.append(
            f"destroyed: {content['destroyed']['files']} files of pages, documents, shards and examples "
            f"({content['destroyed']['bytes']:,} bytes); models, exported copies, and excerpts in Prefect, MLflow "
            "and the pages of runs are not; run the recipes to build without the documents"
        )
        if content["destroyed"]["running"]:
            lines.append(
                f"{content['destroyed']['running']} builds are running, which may hold the documents: ask again when "
                "they have ended"
            )
    return "\n".join(lines)


def _sentence(documents: int, built: list[str]) -> str:
    noun = "document" if documents == 1 else "documents"
    return f"forgotten: {documents} {noun}; built with them: {', '.join(built) or 'nothing'}"


def _origin(identity: str) -> str:
    """Id of the document that a text was derived from, or its own."""
    return identity.partition("#")[0]


# Reading


def _manifests(store: Store) -> Iterator[tuple[str, Manifest]]:
    for name in store.place.names("artifacts"):
        digest = name.removesuffix(".json")
        yield digest, store.manifest(digest)


def _text_files(store: Store) -> Iterator[tuple[str, FileEntry]]:
    """Every file of pages, documents and examples, once."""
    seen: set[str] = set()
    for _, manifest in _manifests(store):
        for name, entry in manifest.files.items():
            if manifest.kind in _LOOKED_AT and name.endswith(".parquet") and entry.object not in seen:
                seen.add(entry.object)
                yield manifest.kind, entry


def _columns(store: Store, entry: FileEntry, columns: list[str]) -> pa.Table | None:
    """Columns of a partition; None if it is gone."""
    if not store.objects.has(entry):
        return None
    return read_table(store.objects.local_path(entry), columns)


def _ids_in(store: Store, kind: str, name: str, entry: FileEntry) -> Collection[str]:
    """Ids of the documents that a file of an artifact holds."""
    if name.endswith(".parquet") and kind in (*_TEXT, "examples"):
        columns = ["id"] if kind in _TEXT else ["id", "document_id"]
        table = _columns(store, entry, columns)
        return [] if table is None else [identity for column in columns for identity in table[column].to_pylist()]
    if kind == "pages" and name == INDEX and store.objects.has(entry):
        with pa.memory_map(str(store.objects.local_path(entry))) as file:
            noted: list[str] = pa.ipc.open_file(file).read_all()["id"].to_pylist()
            return noted
    if kind == "shards" and name.endswith(".arrow") and name.startswith(_SPLITS) and store.objects.has(entry):
        ids: list[str] = ShardFile.open(store.objects.local_path(entry)).ids.to_pylist()
        return ids
    return []


# Pages without what was purged


def _latest_pages(store: Store, holders: Holders) -> Iterator[tuple[str, str, str]]:
    """Recipe, step and artifact of the pages that a next collection will grow from."""
    for recipe, step in store.steps():
        entry = store.history(recipe, step, last=1)[0]
        manifest = holders.artifacts.get(entry.artifact)
        if manifest is not None and manifest.kind == "pages":
            yield recipe, step, entry.artifact


def _succeed(store: Store, recipe: str, step: str, digest: str, holders: Holders) -> Build | None:
    """Pages without the purged ones, as a build for the step's next collection to grow from.

    So all other pages keep their places, their ``first_seen`` and their versions. None if there is
    nothing to keep, or too little is known.
    """
    latest = store.record_of(store.history(recipe, step, last=1)[0].key)
    if latest is None or not store.is_whole(digest):
        return None
    pages = cast(Pages, store.open(digest))
    with tempfile.TemporaryDirectory(dir=store.home, prefix="forget-") as folder:
        files = {}
        kept_index = _without(read_index(pages), holders)
        write_index(kept_index, Path(folder))
        for name in pages.names("*.parquet"):
            files[name] = pages.path(name)
            if pages.manifest.files[name].object in holders.objects:
                kept = _without(read_table(files[name]), holders)
                files[name] = Path(folder) / name
                write_table(kept, files[name])
                if not kept.num_rows:
                    del files[name]
        if not files:
            return None
        rows = kept_index.num_rows
        files[INDEX] = Path(folder) / INDEX
        manifest = store.adopt(pages.kind, files, pages.manifest.counts | {"rows": rows})
    outside = {"found": found_outside(latest.identity.outside), "forgotten": f"purged from {digest}"}
    identity = latest.identity.model_copy(update={"outside": outside, "previous": digest})
    changes = {
        "key": identity.key,
        "identity": identity,
        "artifact": manifest.digest,
        "started_at": datetime.now(UTC),
        "seconds": 0.0,
        "headline": f"{rows:,} pages, others destroyed on request",
        "metrics": {"pages": float(rows)},
        "samples": [],
        "mlflow_run": None,
    }
    return latest.model_copy(update=changes)


def _without(table: pa.Table, holders: Holders) -> pa.Table:
    gone = pc.is_in(table["id"], pa.array(list(holders.documents), pa.string()))
    return table.filter(pc.invert(gone)).combine_chunks()
