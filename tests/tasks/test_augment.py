"""New texts are made, judged and marked, and never cross the validation split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.artifact import Network
from storage.corpus import Documents, derived_id, is_validation
from storage.errors import SourceError, StepFailed
from tasks.augment import Augment
from tasks.variants.closeness import Encoder
from tasks.variants.translation import Translator
from tests.helpers import Outcome, run_task
from tests.tasks.corpora import make_documents, rows_of
from tests.tasks.variants.tiny import tiny_encoder, tiny_translator

TEXTS = {
    "en": "The big house keeps the heat. A house is not a furnace.",
    "zh": "学生在大学里炼丹。炉火不熄。",
    "none": "Nothing to be found here",
}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Network]:
    folder = tmp_path_factory.mktemp("networks")
    translators = {way: tiny_translator(folder / way, seed) for way, seed in (("forward", 1), ("backward", 2))}
    return translators | {"encoder": tiny_encoder(folder / "encoder")}


def _augment(
    tmp_path: Path, networks: dict[str, Network], methods: list[dict[str, Any]], name: str = "step", **settings: Any
) -> Outcome:
    (tmp_path / "words.tsv").write_text("big\tlarge\nhouse\thome\thut\n大学\t学府\n学生\t学子\n", encoding="utf-8")
    workers, seed = settings.pop("workers", 1), settings.pop("seed", 1)
    closeness = {"model": {"path": "encoder"}, "at_least": settings.pop("at_least", -1)}
    closeness |= {"measure": settings.pop("measure", "embedding")}
    parts = [{"en": TEXTS["en"]}, {url: TEXTS[url] for url in ("zh", "none")}]
    inputs: dict[str, Any] = {"documents": make_documents(tmp_path / f"{name}-in", parts)}
    inputs["closeness.model"] = networks["encoder"]
    for number, method in enumerate(methods):
        if method["kind"] == "back_translation":
            inputs |= {f"methods[{number}].{way}": networks[way] for way in ("forward", "backward")}
    task = Augment(documents="documents", methods=methods, closeness=closeness, **settings)  # type: ignore[arg-type]
    return run_task(task, inputs, tmp_path, name=name, workers=workers, seed=seed)


def _rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert isinstance(outcome.artifact, Documents)
    return rows_of(outcome.artifact)


SYNONYMS = {"kind": "synonyms", "lexicon": "words.tsv", "share": 1.0}
BACK = {"kind": "back_translation", "forward": {"path": "forward"}, "backward": {"path": "backward"}}


def test_synonyms_are_kept_beside_their_sources_and_marked(tmp_path: Path, networks: dict[str, Network]) -> None:
    outcome = _augment(tmp_path, networks, [{**SYNONYMS, "variants": 3}])
    rows = _rows(outcome)
    assert [url for url in rows if "#" not in url] == ["en", "zh", "none"]
    made = rows["en#synthetic-1"]
    assert made["text"].startswith("The large h")
    assert rows["zh#synthetic-1"]["text"] == "学子在学府里炼丹。炉火不熄。"
    assert "zh#synthetic-2" not in rows, "the same text is taken once"
    assert made["id"] == derived_id(rows["en"]["id"], 1)
    metadata = json.loads(made["metadata"])
    assert metadata["title"] == "t", "what the source's metadata say stays"
    encoder = Encoder.load(networks["encoder"].folder, "cpu")
    expected = encoder.closeness("embedding", encoder.embedded(TEXTS["en"]), encoder.embedded(made["text"]))
    synthetic = metadata["synthetic"]
    assert (synthetic["of"], synthetic["method"]) == (rows["en"]["id"], "synonyms")
    assert synthetic["similarity"] == pytest.approx(expected, abs=1e-4)
    assert all(made[column] == rows["en"][column] for column in ("source", "license", "first_seen", "language"))
    metrics = outcome.result.metrics
    assert metrics["documents_in"] == 3
    assert metrics["documents_out"] == len(rows) == 3 + metrics["made.synonyms"]
    assert metrics["rejected.synonyms.nothing_replaced"] == 3
    assert metrics["rejected.synonyms.same"] >= 2
    assert {sample.title for sample in outcome.result.samples} == {"synonyms"}
    alone = _augment(tmp_path, networks, [SYNONYMS], "alone", keep_originals=False)
    assert list(_rows(alone)) == ["en#synthetic-1", "zh#synthetic-1"]


def test_back_translations_are_kept_if_they_are_close(tmp_path: Path, networks: dict[str, Network]) -> None:
    rows = _rows(_augment(tmp_path, networks, [BACK]))
    there, back = (Translator.load(networks[way].folder, "cpu", 1, "") for way in ("forward", "backward"))
    for url, text in TEXTS.items():
        assert rows[f"{url}#synthetic-1"]["text"] == back.translated(there.translated(text))
    methods = [BACK, SYNONYMS]
    all_rows = _rows(_augment(tmp_path, networks, methods, "all", measure="bertscore"))
    closeness = {
        row["text"]: json.loads(row["metadata"]).get("synthetic", {}).get("similarity", 1) for row in all_rows.values()
    }
    at_least = sorted(closeness.values())[3]
    strict = _augment(tmp_path, networks, methods, "strict", measure="bertscore", at_least=at_least)
    kept = [row["text"] for row in _rows(strict).values()]
    assert kept == [text for text in closeness if closeness[text] >= at_least]
    assert strict.result.metrics["rejected.back_translation.not_close"] == len(closeness) - len(kept) == 3
    assert "back_translation: rejected, not_close" in {sample.title for sample in strict.result.samples}
    with pytest.raises(StepFailed, match="none of 3 documents left"):
        _augment(tmp_path, networks, [BACK], "none", at_least=1, keep_originals=False)


def test_a_method_can_be_kept_to_languages(tmp_path: Path, networks: dict[str, Network]) -> None:
    """The made documents have no language, so none is touched."""
    assert len(_rows(_augment(tmp_path, networks, [{**SYNONYMS, "languages": ["zh"]}]))) == 3


def test_the_seed_decides(tmp_path: Path, networks: dict[str, Network]) -> None:
    made = [
        _rows(_augment(tmp_path, networks, [SYNONYMS], f"{n}", seed=seed)) for n, seed in enumerate((1, 1, 2, 3, 4))
    ]
    assert made[0] == made[1]
    assert len({rows["en#synthetic-1"]["text"] for rows in made}) > 1


@pytest.mark.slow
def test_workers_decide_nothing(tmp_path: Path, networks: dict[str, Network]) -> None:
    methods = [{**SYNONYMS, "share": 0.3}, BACK]
    digests = {_augment(tmp_path, networks, methods, f"{n}", workers=n).artifact.digest for n in (1, 2)}
    assert len(digests) == 1


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.9])
def test_new_texts_lie_on_their_sources_side_of_every_split(fraction: float) -> None:
    for number in range(200):
        identity = f"{number:032x}"
        derived = derived_id(identity, 1 + number % 3)
        assert derived != identity
        assert is_validation(derived, fraction) == is_validation(identity, fraction)
        assert is_validation(derived_id(derived, 2), fraction) == is_validation(identity, fraction)


def test_a_lexicon_that_is_not_there_is_said_when_planning(tmp_path: Path) -> None:
    from tasks.context import PlainWorld

    task = Augment(documents="d", methods=[SYNONYMS], closeness={"model": {"path": "encoder"}})  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"words\.tsv: there is no such file; correct `lexicon`"):
        task.outside(PlainWorld(tmp_path))
    (tmp_path / "words.tsv").write_text("a\tb\n")
    first = task.outside(PlainWorld(tmp_path))
    (tmp_path / "words.tsv").write_text("a\tc\n")
    assert task.outside(PlainWorld(tmp_path)) != first
