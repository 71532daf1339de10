"""What the store holds, for people and for programs: list, show, verify, gc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.card import facts, said_of_checks
from flows.report import figure_text, seconds_text, table
from storage.artifact import check_new, copy_folder
from storage.errors import UserError
from storage.maintenance import collect_garbage, problems
from storage.shards import Shards
from storage.store import Store
from storage.token_files import Format, export_tokens
from storage.tombstones import buried

Json = dict[str, Any]

_FILES = 30
"""So many files of an artifact are shown to people: a corpus has one a partition."""


def listing(store: Store) -> Json:
    """The latest artifact of every step, and the aliases."""
    rows = []
    for recipe, step in store.steps():
        entry = store.history(recipe, step, last=1)[0]
        whole = store.is_whole(entry.artifact)
        manifest = store.manifest(entry.artifact) if whole else None
        build = store.record_of(entry.key)
        rows.append(
            {
                "name": f"{recipe}/{step}",
                "number": entry.number,
                "artifact": entry.artifact,
                "kind": manifest.kind if manifest else None,
                "bytes": manifest.bytes if manifest else None,
                "at": entry.at.isoformat(),
                "headline": build.headline if build else "",
            }
        )
    return {"store": store.place.root, "artifacts": rows, "aliases": store.aliases()}


def listing_text(content: Json) -> str:
    if not content["artifacts"]:
        return f"the store {content['store']} is empty; `athanor run quickstart` fills it"
    rows = [("name", "artifact", "kind", "size", "built or reused", "result")]
    for row in content["artifacts"]:
        size = bytes_text(row["bytes"]) if row["bytes"] is not None else ""
        name = f"{row['name']}@{row['number']}"
        rows.append((name, row["artifact"][:12], row["kind"] or "gone", size, _minute(row["at"]), row["headline"]))
    text = table(rows, right=(3,))
    aliases = [f"{name} → {digest[:12]}" for name, digest in sorted(content["aliases"].items())]
    return "\n".join([text, *(["", "aliases: " + ", ".join(aliases)] if aliases else [])])


def description(store: Store, digest: str) -> Json:
    """What an artifact is, what it is called, and every build that made it."""
    manifest = store.manifest(digest)
    known = facts(store, digest)
    return {
        "artifact": digest,
        "kind": manifest.kind,
        "bytes": manifest.bytes,
        "counts": manifest.counts,
        "files": {name: entry.model_dump() for name, entry in manifest.files.items()},
        "names": _names(store, digest),
        "builds": [build.model_dump(mode="json") for build in store.builds_of(digest)],
        **({"data": known["data"]} if known else {}),
    }


def description_text(content: Json) -> str:
    lines = [f"{content['kind']} {content['artifact']}", f"size: {bytes_text(content['bytes'])}"]
    if content["names"]:
        lines.append(f"names: {', '.join(content['names'])}")
    lines += [f"{name}: {_count(value)}" for name, value in content["counts"].items()]
    lines += said_of_checks(content.get("data", []))
    for build in content["builds"]:
        lines += ["", *_build_lines(build)]
    rows = [("file", "size", "object")]
    files = list(content["files"].items())
    rows += [(name, bytes_text(file["bytes"]), file["object"][:12]) for name, file in files[:_FILES]]
    more = [f"… and {len(files) - _FILES:,} more; --json names them all"] if len(files) > _FILES else []
    return "\n".join([*lines, "", table(rows, right=(1,)), *more])


def _count(value: Any) -> str:
    return figure_text(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _build_lines(build: Json) -> list[str]:
    identity = build["identity"]
    lines = [
        f"built as {build['recipe']}/{build['step']} ({identity['task']}) at {_minute(build['started_at'])} "
        f"in {seconds_text(build['seconds'])} on {build['host'].get('name', 'an unknown host')}",
        f"  key: {build['key']}",
    ]
    if build["accepted_from"]:
        lines.append(f"  accepted by --reuse: it was made by build {build['accepted_from'][:12]}, of another key")
    if build["continued_from"]:
        lines.append(f"  continued from the state of build {build['continued_from'][:12]}")
    if build["headline"]:
        lines.append(f"  result: {build['headline']}")
    for slot, digest in identity["inputs"].items():
        step = build["input_steps"].get(slot)
        lines.append(f"  input {slot}: {digest[:12]} ({step or 'a folder'})")
    libraries = ", ".join(f"{name} {version}" for name, version in identity["libraries"].items())
    if libraries:
        lines.append(f"  libraries: {libraries}")
    if build["mlflow_run"]:
        lines.append(f"  MLflow run: {build['mlflow_run']}")
    lines += [f"  {name}: {figure_text(value)}" for name, value in sorted(build["metrics"].items())]
    return lines


def verify(store: Store, name: str | None) -> tuple[list[str], str]:
    """What is wrong with the artifact called ``name``, or with the whole store; and it in words."""
    digest = store.resolve(name) if name else None
    found = list(problems(store, digest))
    if found:
        return found, "\n".join([*found, f"{len(found)} problems"])
    if digest:
        return found, f"{digest[:12]}: all {len(store.manifest(digest).files)} files are what was written"
    destroyed = buried(store.place)
    but = f", but for {len(destroyed)} files that were destroyed on request" if destroyed else ""
    return found, f"all {len(store.place.names('artifacts'))} artifacts are what was written{but}"


def collect(store: Store, keep: int, dry_run: bool) -> str:
    """Free what is not needed; says what was, or would be, freed."""
    garbage = collect_garbage(store, keep=keep, dry_run=True)
    said = f"{garbage.artifacts} artifacts, {len(garbage.files)} files, {bytes_text(garbage.bytes)}"
    if garbage.uploads:
        said += f", the parts of {garbage.uploads} uploads that were cut off"
    if dry_run:
        return "\n".join([*garbage.files, f"would free {said}"])
    collect_garbage(store, keep=keep)
    return f"freed {said}"


def bytes_text(count: int) -> str:
    """``812 B``, ``1.4 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _names(store: Store, digest: str) -> list[str]:
    aliases = [name for name, artifact in store.aliases().items() if artifact == digest]
    steps = [
        f"{recipe}/{step}@{entry.number}"
        for recipe, step in store.steps()
        for entry in store.history(recipe, step)
        if entry.artifact == digest
    ]
    return aliases + steps


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def export_as(store: Store, digest: str, folder: Path, form: Format) -> str:
    """Write shards as another trainer's token files, their tokenizer beside them; what to print."""
    artifact = store.open(digest)
    if not isinstance(artifact, Shards):
        raise UserError(f"--format {form}: {digest[:12]} is of kind {artifact.kind}; only shards are token files")
    check_new(folder)
    made = export_tokens(artifact, folder, form)
    copy_folder(artifact.tokenizer, folder / "tokenizer")
    return f"{made} files in {folder}, and the tokenizer in {folder / 'tokenizer'}"
