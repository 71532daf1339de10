"""A model's card: what it was trained on, and which evaluation sets that was checked against.

Everything follows from the lineage in the store, so a card costs no file and no key on the way, and
is the same whenever it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.lineage import lineage
from storage.builds import Build
from storage.errors import NotFound
from storage.store import Store

Json = dict[str, Any]

CARD = "README.md"
_TRAINED = ("model", "adapter")
_DATA = ("shards", "examples")
"""What models are trained on."""
_TEXT = ("pages", "documents", *_DATA)
"""Kinds that text comes through; what else a step takes (a tokenizer, a classifier) brings no text in."""


def facts(store: Store, digest: str, build: Build | None = None) -> Json | None:
    """What a card says, as values; None for what is no model, and for one that no recorded build made.

    ``data`` lists every training input back to the first model: its ``step``, ``artifact``,
    ``headline``, ``sources``, ``languages``, ``checks`` (see :func:`_checks`) and ``is_set``, the
    name of the evaluation set that it is itself, if it is one that was looked for whole.
    """
    try:
        if store.manifest(digest).kind not in _TRAINED:
            return None
    except NotFound:
        return None
    traced = lineage(store, digest, build)
    if traced["build"] is None:
        return None
    data = [data_facts(node) for node in _training_data(traced)]
    checks = [check for part in data for check in part["checks"]]
    sets = {check["artifact"]: check["set"] for check in checks if "train" in (check["splits"] or ())}
    for part in data:
        part["is_set"] = sets.get(part["artifact"])
    return {
        "name": f"{traced['build']['recipe']}/{traced['build']['step']}",
        "kind": traced["kind"],
        "headline": traced["build"]["headline"],
        "data": data,
    }


def _training_data(node: Json) -> Iterator[Json]:
    """Shards and examples that a model and those it grew from were trained on, each once, the first model's first.

    A model from a folder stands for data that nobody knows.
    """
    seen: set[str] = set()
    for source in node["inputs"].values():
        model = source["kind"] in _TRAINED
        for data in _training_data(source) if model and source["build"] else [source]:
            if (model or data["kind"] in _DATA) and data["artifact"] not in seen:
                seen.add(data["artifact"])
                yield data


def data_facts(node: Json) -> Json:
    """Where the text of shards or examples came from, and what it was checked against; ``node`` as in a lineage."""
    build = node["build"]
    sources = {(source["name"], source["kind"]): source for source in _sources(node)}
    return {
        "step": build["step"] if build else None,
        "artifact": node["artifact"],
        "kind": node["kind"],
        "headline": build["headline"] if build else "",
        "sources": [sources[name] for name in sorted(sources)],
        "languages": sorted(set(_languages(node))),
        "checks": sorted(_checks(node).values(), key=lambda check: (check["set"], check["step"])),
    }


def _text_inputs(node: Json) -> list[Json]:
    """The inputs whose text is in the output."""
    build = node["build"]
    evaluation = build is not None and build["task"] == "decontaminate"
    return [
        source
        for slot, source in node["inputs"].items()
        if source["kind"] in _TEXT and not (evaluation and slot.startswith("against"))
    ]


def _sources(node: Json) -> Iterator[Json]:
    """Name and kind of every source of the text."""
    build, inputs = node["build"], _text_inputs(node)
    if build is None:
        yield {"name": node["artifact"][:12], "kind": "a folder"}
    elif isinstance(build["settings"].get("sources"), list):
        for source in build["settings"]["sources"]:
            yield {"name": source.get("name") or source["kind"], "kind": source["kind"]}
    for source in inputs:
        yield from _sources(source)


def _languages(node: Json) -> Iterator[str]:
    """The languages that the text was filtered by."""
    if node["build"] is not None and node["build"]["task"] == "filter":
        yield from node["build"]["settings"].get("languages", [])
    for source in _text_inputs(node):
        yield from _languages(source)


def _checks(node: Json) -> dict[tuple[str, str], Json]:
    """The evaluation sets that *all* text of this artifact was checked against, on its way here.

    Where texts come together, a set counts only if each of them was checked against it.
    """
    inputs = [_checks(source) for source in _text_inputs(node)]
    shared = set.intersection(*(set(found) for found in inputs)) if inputs else set()
    checks = {name: inputs[0][name] for name in shared}
    build = node["build"]
    if build is not None and build["task"] == "decontaminate":
        for slot, reference in enumerate(build["settings"]["against"]):
            checked = node["inputs"][f"against[{slot}]"]
            checks[checked["artifact"], build["key"]] = _check(build, reference["name"], checked)
    return checks


def _check(build: Json, name: str, evaluation_set: Json) -> Json:
    settings, metrics = build["settings"], build["metrics"]
    return {
        "set": name,
        "artifact": evaluation_set["artifact"],
        "splits": settings["splits"] if evaluation_set["kind"] == "examples" else None,
        "step": build["step"],
        "ngram_words": settings["ngram_words"],
        "short_item_words": settings["short_item_words"],
        "common_in": settings["common_in"],
        "action": settings["action"],
        "items": int(metrics[f"items.{name}"]),
        "items_too_short": int(metrics[f"items_too_short.{name}"]),
        "documents": int(metrics["documents_in"]),
        "overlapped": int(metrics[f"contaminated.{name}"]),
    }


# In words


def card_text(known: Json) -> str:
    """The card as Markdown, with the header that model hubs read."""
    what = "A language model" if known["kind"] == "model" else "An adapter of a language model"
    recipe, _, step = known["name"].partition("/")
    lines = [*_header(known), "", f"# {known['name']}", ""]
    result = f" ({known['headline']})" if known["headline"] else ""
    lines += [f"{what}, made by step `{step}` of the recipe `{recipe}`{result}.", "", "## Training data", ""]
    lines += ["| step | what | sources | languages |", "| --- | --- | --- | --- |"]
    for part in known["data"]:
        sources = ", ".join(f"{source['name']} ({source['kind']})" for source in part["sources"])
        languages = ", ".join(part["languages"])
        lines.append(f"| {_name(part)} | {part['kind']}: {part['headline']} | {sources} | {languages} |")
    return "\n".join([*lines, "", "## Checked against", "", *_checks_text(known["data"])]) + "\n"


def without_header(card: str) -> str:
    """A card for readers that know Markdown only."""
    return card.split("---\n", 2)[-1].lstrip()


def _header(known: Json) -> list[str]:
    languages = sorted({language for part in known["data"] for language in part["languages"]})
    library = "transformers" if known["kind"] == "model" else "peft"
    lines = ["---", f"library_name: {library}", "pipeline_tag: text-generation", "tags:", "- athanor"]
    # In YAML 1.1, which readers of cards use, a bare `no` (Norwegian) is a truth value.
    lines += ["language:", *(f'- "{language}"' for language in languages)] if languages else []
    return [*lines, "---"]


def _checks_text(data: Sequence[Json]) -> list[str]:
    lines = []
    if any(part["checks"] for part in data):
        lines += ["| data | evaluation set | digest | looked for | overlapped |", "| --- | --- | --- | --- | --- |"]
    for part in data:
        for check in part["checks"]:
            splits = f" ({', '.join(check['splits'])})" if check["splits"] else ""
            lines.append(
                f"| {_name(part)} | {check['set']}{splits} | `{check['artifact'][:12]}` | {_looked_for(check)} "
                f"| {_found(check)} |"
            )
    return [*lines, *([""] if lines else []), *_warnings(data)]


def _warnings(data: Iterable[Json]) -> Iterator[str]:
    for part in data:
        if not part["checks"]:
            yield f"- {_name(part)}: not checked against any evaluation set."
        if part["is_set"]:
            yield f"- {_name(part)}: this is the evaluation set {part['is_set']}; its training split was learnt."


def _looked_for(check: Json) -> str:
    parts = [f"{check['ngram_words']} words in a row, of {check['items']:,} items"]
    if check["short_item_words"] < check["ngram_words"]:
        parts.append(f"shorter ones whole from {check['short_item_words']} words on")
    if check["items_too_short"]:
        parts.append(f"{check['items_too_short']:,} items were too short to be looked for")
    if check["common_in"] is not None:
        parts.append(f"n-grams in more than {check['common_in']} documents ignored")
    return "; ".join(parts)


def _found(check: Json) -> str:
    done = "dropped" if check["action"] == "drop" else "cut or dropped"
    return f"{check['overlapped']:,} of {check['documents']:,} documents, {done}"


def said_of_checks(data: Sequence[Json]) -> list[str]:
    """A line for each training input and evaluation set, for the terminal."""
    lines = []
    for part in data:
        for check in part["checks"]:
            said = f"{_name(part)} checked against {check['set']} {check['artifact'][:12]}"
            lines.append(f"{said}: {_looked_for(check)}; {_found(check)}")
    return [*lines, *(warning.removeprefix("- ") for warning in _warnings(data))]


def _name(part: Json) -> str:
    return str(part["step"] or f"folder {part['artifact'][:12]}")


def write_card(store: Store, digest: str, folder: Path) -> bool:
    """Write the card of a model into its exported folder, unless it has one; returns whether it was written."""
    known = facts(store, digest)
    if known is None or (folder / CARD).exists():
        return False
    (folder / CARD).write_text(card_text(known), encoding="utf-8")
    return True
