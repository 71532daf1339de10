"""Names, places and organisations by a model: Presidio over a spaCy pipeline, an extra (``athanor[ner]``).

Both are imported by name, when entities are asked for: a step without them needs neither, and
their versions count for the key only where they shape the output (see ``fingerprint``).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from storage.artifact import JsonValue
from storage.errors import RecipeError
from tasks.pii.kinds import Found

Entity = Literal["PERSON", "LOCATION", "ORGANIZATION", "NRP", "DATE_TIME"]
"""Presidio's names: NRP is a nationality, religion or political group."""

_PIECE_CHARACTERS = 50_000
"""A model reads so much at a time; its memory grows with it, and spaCy refuses more than a million."""


def fingerprint(model: str, folder: Path) -> JsonValue:
    """What decides a model's findings: its version or, in a folder, its files; and the versions of the libraries.

    Raises RecipeError where the extra or the model is absent.
    """
    if importlib.util.find_spec("presidio_analyzer") is None or importlib.util.find_spec("spacy") is None:
        raise RecipeError("scrub_pii.entities: Presidio and spaCy are not installed; pip install 'athanor[ner]'")
    libraries = {name: importlib.metadata.version(name) for name in ("presidio-analyzer", "spacy")}
    return {"model": _version_of(model, folder), **libraries}


def _version_of(model: str, folder: Path) -> JsonValue:
    from storage.identity import digest_of_file

    if (folder / model / "meta.json").exists():
        files = sorted(path for path in (folder / model).rglob("*") if path.is_file())
        return {path.relative_to(folder / model).as_posix(): digest_of_file(path) for path in files}
    try:
        return f"{model} {importlib.metadata.version(model)}"
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise RecipeError(
            f"scrub_pii.spacy_models: there is no spaCy model {model!r}; install its package, or give the folder of one"
        ) from error


def find_entities(data: bytes, model: str, folder: Path, entities: tuple[str, ...]) -> list[Found]:
    """Entities of these kinds in a text in UTF-8, in bytes; may overlap."""
    analyzer, language = _analyzer(str(folder / model) if (folder / model).exists() else model)
    found, offset = [], 0
    for piece in _pieces(data.decode()):
        results = analyzer.analyze(piece, language=language, entities=list(entities))
        for result in results:
            start = offset + len(piece[: result.start].encode())
            found.append(Found(result.entity_type, start, start + len(piece[result.start : result.end].encode())))
        offset += len(piece.encode())
    return found


def _pieces(text: str) -> Iterator[str]:
    """Parts of bounded length, cut at the ends of lines where there are any."""
    yield from re.findall(rf"(?s).{{1,{_PIECE_CHARACTERS}}}(?:(?<=\n)|\Z)|.{{1,{_PIECE_CHARACTERS}}}", text)


@lru_cache(maxsize=4)
def _analyzer(model: str) -> tuple[Any, str]:
    """An analyser with the model's entities only (numbers are found by forms of our own), and its language."""
    presidio, engines, recognizers = (
        importlib.import_module(name)
        for name in ("presidio_analyzer", "presidio_analyzer.nlp_engine", "presidio_analyzer.predefined_recognizers")
    )
    language = importlib.import_module("spacy").load(model).lang
    engine = engines.SpacyNlpEngine(models=[{"lang_code": language, "model_name": model}])
    registry = presidio.RecognizerRegistry(supported_languages=[language])
    registry.add_recognizer(recognizers.SpacyRecognizer(supported_language=language))
    analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])
    return analyzer, language
