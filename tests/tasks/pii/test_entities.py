"""Names and places by an engine: a tiny spaCy pipeline made here, read through Presidio."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from storage.corpus import DOCUMENTS_SCHEMA, Documents, table_of, write_table
from storage.errors import RecipeError
from tasks.context import PlainWorld
from tasks.scrub_pii import ScrubPii
from tests.helpers import Outcome, run_task
from tests.tasks.corpora import rows_of

needs_presidio = pytest.mark.skipif(
    importlib.util.find_spec("presidio_analyzer") is None, reason="the extra 'ner' is not installed"
)


def make_model(folder: Path, language: str, patterns: dict[str, str]) -> None:
    """A pipeline that knows a few names by heart."""
    import spacy

    pipeline = spacy.blank(language)
    ruler: Any = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": label, "pattern": name} for name, label in patterns.items()])
    pipeline.to_disk(folder)


def scrubbed(tmp_path: Path, texts: dict[str, tuple[str | None, str]], **settings: Any) -> Outcome:
    rows = [
        {"id": url, "url": url, "text": text, "language": language, "source": "test", "first_seen": 1}
        for url, (language, text) in texts.items()
    ]
    write_table(table_of(rows, DOCUMENTS_SCHEMA), tmp_path / "in" / "0.parquet")
    task = ScrubPii.model_validate({"documents": "d", "entities": ["PERSON", "LOCATION"], **settings})
    return run_task(task, {"documents": Documents.of_folder(tmp_path / "in")}, tmp_path, workers=1)


@pytest.mark.slow
@needs_presidio
def test_names_and_places_are_replaced_beside_the_forms(tmp_path: Path) -> None:
    make_model(tmp_path / "en", "en", {"Ada Lovelace": "PERSON", "Paris": "GPE", "Monday": "DATE"})
    make_model(tmp_path / "zh", "zh", {"张三": "PERSON", "北京": "GPE"})
    texts: dict[str, tuple[str | None, str]] = {
        "en": ("en", "Ada Lovelace (ada@example.com) left Paris on Monday."),
        "zh": ("zh", "张三住在北京，手机13812345678"),
        "de": ("de", "Ada Lovelace in Paris"),
        "none": (None, "“Ada Lovelace” — Paris"),
        "long": ("en", "café 字 " * 20_000 + "\nAda Lovelace"),
    }
    outcome = scrubbed(
        tmp_path, texts, spacy_models={"en": "en", "zh": "zh"}, replace={"PERSON": "mask", "email": "placeholder"}
    )
    rows = rows_of(outcome.artifact)  # type: ignore[arg-type]
    assert rows["en"]["text"] == "A** L******* (<EMAIL>) left <LOCATION> on Monday."
    assert rows["zh"]["text"] == "张*住在<LOCATION>，手机<PHONE>"
    assert rows["de"]["text"] == "Ada Lovelace in Paris"
    assert rows["none"]["text"] == "“A** L*******” — <LOCATION>"
    assert str(rows["long"]["text"]).endswith("字 \nA** L*******")
    assert outcome.result.metrics["replaced.PERSON"] == 4
    assert not any("Lovelace" in sample.before for sample in outcome.result.samples)


@needs_presidio
def test_a_changed_model_is_another_step(tmp_path: Path) -> None:
    task = ScrubPii.model_validate({"documents": "d", "entities": ["PERSON"], "spacy_models": {"en": "model"}})
    seen = []
    for name in ("Ada", "Grace"):
        make_model(tmp_path / "model", "en", {name: "PERSON"})
        seen.append(task.outside(PlainWorld(tmp_path)))
    assert seen[0] != seen[1]
    make_model(tmp_path / "model", "en", {"Ada": "PERSON"})
    assert task.outside(PlainWorld(tmp_path)) == seen[0]


@needs_presidio
def test_an_absent_model_is_one_line(tmp_path: Path) -> None:
    task = ScrubPii.model_validate({"documents": "d", "entities": ["PERSON"], "spacy_models": {"en": "no_such_model"}})
    with pytest.raises(RecipeError, match="no spaCy model 'no_such_model'; install its package") as caught:
        task.outside(PlainWorld(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_absent_engine_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    task = ScrubPii.model_validate({"documents": "d", "entities": ["PERSON"], "spacy_models": {"en": "model"}})
    with pytest.raises(RecipeError, match=r"pip install 'athanor\[ner\]'") as caught:
        task.outside(PlainWorld(tmp_path))
    assert "\n" not in str(caught.value)
