"""Classifiers and judgements as recipes have them: trained, applied, judged, and rebuilt when they have to be."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from flows.home import Home
from flows.plan import Planner
from flows.recipe import parse_recipe
from storage.corpus import Documents, read_table
from storage.errors import RecipeError, SourceError, UserError
from tasks.quality_check import QualityCheck
from tests.flows.conftest import built, make_all, planner_of
from tests.tasks.classifiers.networks import made_text_classifier
from tests.tasks.test_train_classifier import COURT, KITCHEN, pairs_of, train

PAIRS = pairs_of({"kitchen": KITCHEN, "court": COURT}, 60)
LABELS = dict(PAIRS[:20])
"""Text of a page, which is its address too, and what it is about."""
RECIPE = """\
name: judged
steps:
  pages: {task: fetch, folder: pages}
  documents: {task: clean, pages: pages}
  labelled:
    task: examples
    sources: [{kind: jsonl, path: labelled.jsonl, prompt: text, response: label}]
    template: "{prompt}"
  subject: {task: train_classifier, examples: labelled}
  kept:
    task: filter
    documents: documents
    rules: [{classifier: subject, label: court, above: 0.5}]
  tagged:
    task: filter
    documents: documents
    rules: [{classifier: subject, label: court, above: 0.5}, {length: {min_words: 12}}]
    action: tag
  check: {task: quality_check, documents: tagged, per_stratum: 5}
resources: {workers: 1}
"""


@pytest.fixture
def folder(home: Home) -> Path:
    """A folder of labelled lines, and of pages: ten of each label."""
    folder = home.folder.parent
    lines = [json.dumps({"text": text, "label": label}) for text, label in PAIRS[20:]]
    (folder / "labelled.jsonl").write_text("\n".join(lines))
    (folder / "pages").mkdir()
    (folder / "pages" / "all.txt").write_text("\n".join(LABELS))
    return folder


def subjects(planner: Planner, artifact: str | None) -> list[str]:
    """What the documents of an artifact are about."""
    documents = planner.store.open(str(artifact))
    assert isinstance(documents, Documents)
    return [LABELS[url] for part in documents.partitions for url in read_table(part.path)["url"].to_pylist()]


def test_a_classifier_of_one_step_filters_in_another(home: Home, folder: Path) -> None:
    planner = planner_of(home, RECIPE, until="kept")
    assert planner.recipe.steps["kept"].needs == ["documents", "subject"]
    first = make_all(planner)
    assert subjects(planner, first["kept"].artifact) == ["kitchen"] * 10
    assert built(make_all(planner_of(home, RECIPE, until="kept"))) == []
    # The threshold is the filter's, the labels are the classifier's: each rebuilds what comes of it.
    threshold = RECIPE.replace("above: 0.5", "above: 0.999999")
    assert built(make_all(planner_of(home, threshold, until="kept"))) == ["kept"]
    (folder / "labelled.jsonl").write_text(
        (folder / "labelled.jsonl").read_text().replace("court", "lawn").replace("kitchen", "court")
    )
    relabelled = planner_of(home, RECIPE, until="kept")
    second = make_all(relabelled)
    assert built(second) == ["labelled", "subject", "kept"]
    assert subjects(relabelled, second["kept"].artifact) == ["court"] * 10


def test_people_judge_what_a_filter_tags(home: Home, folder: Path) -> None:
    first = make_all(planner := planner_of(home, RECIPE))
    sample = planner.store.open(str(first["check"].artifact)).path("sample.csv")
    with sample.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reasons"] for row in rows} >= {"", "classifier.court"}
    with (folder / "ann.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "verdict": "reject" if LABELS[row["url"]] == "court" else "accept"} for row in rows)
    judged = RECIPE.replace("per_stratum: 5", "per_stratum: 5, judgements: ann.csv")
    second = make_all(planner_of(home, judged))
    assert built(second) == ["check"]
    assert second["check"].metrics["rule.classifier.court.precision"] == 1
    assert built(make_all(planner_of(home, judged))) == []
    (folder / "ann.csv").write_text((folder / "ann.csv").read_text("utf-8").replace("accept", "reject"), "utf-8")
    third = make_all(planner_of(home, judged))
    assert built(third) == ["check"]
    assert third["check"].metrics["kept.rejected"] == 1


def test_a_folder_with_a_classifier_is_adopted(home: Home, folder: Path, tmp_path: Path) -> None:
    trained = train(tmp_path / "elsewhere", PAIRS).artifact
    shutil.copytree(trained.folder, folder / "mine")
    recipe = RECIPE.replace("classifier: subject", "classifier: {path: mine}")
    first = make_all(planner := planner_of(home, recipe, until="kept"))
    assert subjects(planner, first["kept"].artifact) == ["kitchen"] * 10
    (folder / "mine" / "notes.txt").write_text("not part of it")
    assert built(make_all(planner_of(home, recipe, until="kept"))) == []


def test_what_is_wrong_with_a_classifier_is_one_line(home: Home, folder: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"toy\.yaml:13: kept\.rules\[0\]\.classifier\.model: step 'documents' makes documents"
    ):
        planner_of(home, RECIPE.replace("classifier: subject", "classifier: documents"))
    with pytest.raises(RecipeError, match="subjects"):
        planner_of(home, RECIPE.replace("classifier: subject", "classifier: subjects"))
    (folder / "pictures").mkdir()
    make_all(planner_of(home, RECIPE, until="documents"))
    pictures = planner_of(home, RECIPE.replace("classifier: subject", "classifier: {path: pictures}"))
    with pytest.raises(SourceError, match="no classifier in it"):
        pictures.plan()
    with pytest.raises(UserError, match="has no label 'sea', only court, kitchen"):
        make_all(planner_of(home, RECIPE.replace("label: court", "label: sea"), until="kept"))


@pytest.mark.slow  # transformers is imported in a worker
def test_a_network_filters_from_its_folder(home: Home, folder: Path) -> None:
    made_text_classifier(folder / "network", ("low", "high"))
    recipe = RECIPE.replace("{classifier: subject, label: court,", "{classifier: {path: network}, label: high,")
    first = make_all(planner := planner_of(home, recipe.replace("above: 0.5", "below: -1"), until="kept"))
    assert len(subjects(planner, first["kept"].artifact)) == 20


def test_the_recipe_of_the_guide(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "quality-check.md").read_text("utf-8")
    first, judged, after = (block.split("```")[0] for block in guide.split("```yaml\n")[1:])
    recipe = parse_recipe(first + after, "guide.yaml", tmp_path)
    assert recipe.steps["kept"].needs == ["documents", "quality"]
    whole = first[: first.index("  check:")] + judged + after
    task = parse_recipe(whole, "guide.yaml", tmp_path).steps["check"].task
    assert isinstance(task, QualityCheck)
    assert task.judgements == ("judged/ann.csv", "judged/bo.csv")
