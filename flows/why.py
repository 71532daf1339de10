"""How two identities differ, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from storage.artifact import Manifest
from storage.builds import Identity
from storage.code import changed_symbols, file_of
from storage.errors import AthanorError
from storage.store import Store

_MOST_CHANGES = 6
"""Of one kind; more are counted, not listed."""


def differences(store: Store, old: Identity, new: Identity) -> list[str]:
    """What differs between two builds of one step, each difference in a few words."""
    return [
        *([f"task {old.task} → {new.task}"] if old.task != new.task else []),
        *_listed(list(changed_values(old.settings, new.settings))),
        *([f"seed {_shown(old.seed)} → {_shown(new.seed)}"] if old.seed != new.seed else []),
        *_code(old, new),
        *_libraries(old, new),
        *_inputs(store, old, new),
        *outside_differences(old.outside, new.outside),
    ]


def changed_values(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """``optimizer.learning_rate 0.001 → 0.002`` for every value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            inner = f"{place}.{name}" if place else name
            if name not in old:
                yield f"{inner} not set → {_shown(new[name])}"
            elif name not in new:
                yield f"{inner} {_shown(old[name])} → not set"
            else:
                yield from changed_values(old[name], new[name], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from changed_values(before, after, f"{place}[{index}]")
    elif old != new:
        yield f"{place} {_shown(old)} → {_shown(new)}"


def _code(old: Identity, new: Identity) -> Iterator[str]:
    changed = changed_symbols(old.code, new.code)
    for module, symbols in list(changed.items())[:_MOST_CHANGES]:
        path = file_of(module)
        name = (
            f"{module.replace('.', '/')}/__init__.py"
            if path and path.name == "__init__.py"
            else f"{module.replace('.', '/')}.py"
        )
        if module not in new.code:
            yield f"code of {name} no longer used"
        elif module not in old.code:
            yield f"code of {name} newly used"
        else:
            shown = [symbol.strip("<>") for symbol in symbols[:_MOST_CHANGES]]
            more = f" and {len(symbols) - _MOST_CHANGES} more" if len(symbols) > _MOST_CHANGES else ""
            yield f"code of {name} changed: {', '.join(shown)}{more}"
    if len(changed) > _MOST_CHANGES:
        yield f"code of {len(changed) - _MOST_CHANGES} more files changed"


def _libraries(old: Identity, new: Identity) -> Iterator[str]:
    for name in sorted(old.libraries.keys() | new.libraries.keys()):
        before, after = old.libraries.get(name), new.libraries.get(name)
        if before != after:
            yield f"{name} {before or 'not used'} → {after or 'not used'}"


def _inputs(store: Store, old: Identity, new: Identity) -> Iterator[str]:
    for slot in sorted(old.inputs.keys() | new.inputs.keys()):
        before, after = old.inputs.get(slot), new.inputs.get(slot)
        if before == after:
            continue
        if before is None or after is None:
            yield f"input {slot} {'added' if before is None else 'removed'}"
        else:
            yield f"input {slot} changed{_files_changed(store, before, after)}"


def _files_changed(store: Store, before: str, after: str) -> str:
    """``: 3 of 40 partitions``, if both manifests are there."""
    manifests: list[Manifest] = []
    for digest in (before, after):
        try:
            manifests.append(store.manifest(digest))
        except AthanorError:
            return ""
    old, new = manifests
    names = old.files.keys() | new.files.keys()
    partitions = {name for name in names if name.endswith(".parquet")}
    unit = "partitions" if partitions else "files"
    looked_at = partitions or names
    changed = [name for name in looked_at if old.files.get(name) != new.files.get(name)]
    return f": {len(changed)} of {len(looked_at)} {unit}"


def outside_differences(old: Any, new: Any) -> list[str]:
    """How the sources' fingerprints differ: by file where they list files."""
    told = _told_of_requests(_forgotten(old), _forgotten(new))
    was, now = _sources(found_outside(old)), _sources(found_outside(new))
    for name in sorted(name for name in was.keys() & now.keys() if _counts_files(was[name], now[name])):
        first, then = was.pop(name), now.pop(name)
        if first["files"] != then["files"]:
            told.append(f"source {name} changed: {first['files']:,} → {then['files']:,} files")
        elif first != then:
            told.append(f"source {name} changed: what its files hold")
    before, after = _leaves(was), _leaves(now)
    if before == after:
        return told
    added = len(after.keys() - before.keys())
    removed = len(before.keys() - after.keys())
    changed = sum(before[place] != after[place] for place in before.keys() & after.keys())
    counts = [
        f"{count} {word}" for count, word in ((added, "added"), (changed, "changed"), (removed, "removed")) if count
    ]
    return [*told, f"source changed: {', '.join(counts)}"]


def _sources(found: Any) -> dict[str, Any]:
    """The fingerprints by the sources' names, and whatever else there is, in a dictionary of its own."""
    if not isinstance(found, dict) or not isinstance(found.get("sources"), dict):
        return {"": found}
    return {**found["sources"], **{f"({name})": value for name, value in found.items() if name != "sources"}}


def _counts_files(*fingerprints: Any) -> bool:
    return all(isinstance(found, dict) and found.keys() == {"files", "content"} for found in fingerprints)


def found_outside(outside: Any) -> Any:
    """What was found, without why it was looked for again."""
    return outside["found"] if _is_beside(outside) else outside


def _told_of_requests(old: Any, new: Any) -> list[str]:
    if old == new:
        return []
    if new is None:
        return ["requests to forget were withdrawn"]
    return ["documents are to be forgotten" if old is None else "the requests to forget are others"]


def _forgotten(outside: Any) -> Any:
    return outside.get("forgotten") if _is_beside(outside) else None


def _is_beside(outside: Any) -> bool:
    return isinstance(outside, dict) and "found" in outside and outside.keys() <= {"found", "run", "forgotten"}


def _leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Every value of a fingerprint; a list of name and digest pairs counts as a mapping."""
    if isinstance(value, dict):
        items = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list):
        pairs = all(isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) for item in value)
        items = [(item[0], item[1]) if pairs else (str(index), item) for index, item in enumerate(value)]
    else:
        return {place: value}
    return {p: leaf for key, child in items for p, leaf in _leaves(child, f"{place}/{key}").items()}


def _listed(changes: list[str]) -> list[str]:
    if len(changes) <= _MOST_CHANGES:
        return changes
    return [*changes[:_MOST_CHANGES], f"{len(changes) - _MOST_CHANGES} more settings changed"]


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
