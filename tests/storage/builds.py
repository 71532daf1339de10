"""Builds of made files, for tests of the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from storage.builds import Build, Identity
from storage.store import Store, Work


def identity(**changes: object) -> Identity:
    """Who a build is; equal changes, equal keys."""
    values: dict[str, object] = {"task": "dedup", "settings": {"similarity": 0.8}, "inputs": {}, "code": {}}
    return Identity.model_validate({**values, "libraries": {}, **changes})


def build(store: Store, files: Mapping[str, bytes], *, step: str = "unique", **changes: object) -> Build:
    """Commit an artifact of these files as a build of ``step``."""
    who = identity(**changes)
    with store.building(who.key) as work:
        made = commit(store, work, who, files, step=step)
    store.append_history("r", step, who.key, made.artifact)
    return made


def commit(store: Store, work: Work, who: Identity, files: Mapping[str, bytes], *, step: str = "unique") -> Build:
    """What a builder does once it holds the key: write files, make them an artifact, and record the build."""
    for name, content in files.items():
        path = work.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    manifest = store.commit(work, "documents", {"rows": len(files)})
    made = Build(
        key=who.key,
        artifact=manifest.digest,
        kind="documents",
        recipe="r",
        step=step,
        identity=who,
        started_at=datetime.now(UTC),
        seconds=0.1,
    )
    store.record(made)
    return made
