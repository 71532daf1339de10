"""Recipes: what is read, and how what is wrong is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.recipe import load_recipe, parse_recipe
from storage.errors import RecipeError
from tests.flows.conftest import RECIPE
from tests.flows.toys import Keep, Train


def test_a_graph_comes_from_the_references(tmp_path: Path) -> None:
    text = "name: r\nsteps:\n  b: {task: keep, documents: a}\n  a: {task: clean, pages: p}\n  p: {task: fetch}\n"
    recipe = parse_recipe(text, "r.yaml", tmp_path)
    assert list(recipe.steps) == ["p", "a", "b"]
    assert recipe.steps["b"].needs == ["a"]
    assert recipe.upstream(["a"]) == {"a", "p"}
    assert recipe.downstream(["a"]) == {"a", "b"}


def test_yaml_1_2_scalars(tmp_path: Path) -> None:
    text = RECIPE.replace("letters: 4", "letters: 1_000, words: [no, on, 2020-01-01]").replace(
        "rate: 1e-3", "rate: 2e-4"
    )
    recipe = parse_recipe(text, "r.yaml", tmp_path)
    keep, train = recipe.steps["kept"].task, recipe.steps["base"].task
    assert isinstance(keep, Keep)
    assert keep.letters == 1000
    assert keep.words == ["no", "on", "2020-01-01"]
    assert isinstance(train, Train)
    assert train.schedule.rate == 2e-4


def test_a_mixture_refers_to_several_steps(tmp_path: Path) -> None:
    mixture = "data: [{documents: kept, weight: 0.8}, {documents: documents, weight: 0.2}]"
    recipe = parse_recipe(RECIPE.replace("data: kept", mixture), "r.yaml", tmp_path)
    assert recipe.steps["base"].needs == ["kept", "documents"]


def test_resources_of_a_step_go_before_the_recipes(tmp_path: Path) -> None:
    text = RECIPE.replace("{workers: 1}", "{workers: 3, steps: {base: {processes: 2}}}")
    recipe = parse_recipe(text, "r.yaml", tmp_path)
    assert recipe.steps["base"].resources.workers == 3
    assert recipe.steps["base"].resources.processes == 2
    assert recipe.steps["kept"].resources.processes == 1


ERRORS = {
    "misspelt field": (
        "letters: 4",
        "leters: 4",
        "toy.yaml:6: kept.leters = 4: keep has no field 'leters'; did you mean 'letters'?",
    ),
    "misspelt field inside": (
        "{rate: 1e-3}",
        "{rat: 1e-3}",
        "toy.yaml:10: base.schedule.rat = 0.001: train's schedule has no field 'rat'; did you mean 'rate'?",
    ),
    "misspelt task": (
        "task: clean",
        "task: claen",
        "toy.yaml:5: documents.task = 'claen': there is no task 'claen'; did you mean 'clean'?",
    ),
    "no task": ("task: clean, ", "", "toy.yaml:5: documents needs the field 'task'"),
    "misspelt step": (
        "data: kept",
        "data: kep",
        "toy.yaml:9: base.data = 'kep': there is no step 'kep'; did you mean 'kept'?",
    ),
    "misspelt step in a list": (
        "[base]",
        "[base, bsae]",
        "toy.yaml:11: report.models[1] = 'bsae': there is no step 'bsae'; did you mean 'base'?",
    ),
    "cycle": (
        "{task: clean, pages: pages}",
        "{task: keep, documents: kept}",
        "toy.yaml:5: steps wait for each other: documents → kept → documents",
    ),
    "step that needs itself": (
        "documents: documents,",
        "documents: kept,",
        "toy.yaml:6: steps wait for each other: kept → kept",
    ),
    "kind": (
        "[base]",
        "[kept]",
        "toy.yaml:11: report.models[0]: step 'kept' makes documents, not a model or an adapter; name base",
    ),
    "kind that no step above makes": (
        "{task: clean, pages: pages}",
        "{task: keep, documents: pages}",
        "toy.yaml:5: documents.documents: step 'pages' makes pages, not documents; put a step of clean_html or clean",
    ),
    "kind of documents": (
        "pages: pages}",
        "pages: kept}",
        "toy.yaml:5: documents.pages: step 'kept' makes documents, not pages; name pages",
    ),
    "out of range": ("letters: 4", "letters: -1", "toy.yaml:6: kept.letters = -1: must be greater than or equal to 0"),
    "wrong type": ("letters: 4", "letters: many", "toy.yaml:6: kept.letters = 'many': must be a valid integer"),
    "wrong choice": (
        "pages: pages}",
        "pages: pages, letters: lowr}",
        "toy.yaml:5: documents.letters = 'lowr': must be 'as_they_are' or 'lower'; did you mean 'lower'?",
    ),
    "missing input": ("documents: documents, ", "", "toy.yaml:6: kept: keep needs the field 'documents'"),
    "input of a wrong form": (
        "documents: documents,",
        "documents: [documents],",
        "toy.yaml:6: kept.documents = ['documents']: expected the name of a step, or {path: FOLDER}",
    ),
    "missing folder": (
        "[base]",
        "[{path: nowhere}]",
        "toy.yaml:11: report.models[0] = {path: nowhere}: there is no such folder",
    ),
    "duplicate key": ("letters: 4", "letters: 4, letters: 5", "toy.yaml:6: key 'letters' is given twice"),
    "duplicate step": ("  base:\n", "  kept: {task: fetch}\n  base:\n", "toy.yaml:7: key 'kept' is given twice"),
    "no steps": (RECIPE, "name: toy\n", "toy.yaml:1: a recipe needs the field 'steps'"),
    "empty steps": (RECIPE, "name: toy\nsteps: {}\n", "toy.yaml:2: steps: there are none"),
    "empty file": (RECIPE, "\n# nothing\n", "toy.yaml:1: the file is empty"),
    "not a mapping": (RECIPE, "- a\n- b\n", "toy.yaml:1: a recipe is a mapping with 'name' and 'steps', not a list"),
    "step is not a mapping": (
        "{task: fetch, folder: texts}",
        "fetch",
        "toy.yaml:4: pages = 'fetch': must be a valid dictionary",
    ),
    "not YAML": ("{task: fetch, folder: texts}", "{task: fetch", "toy.yaml:5: not valid YAML"),
    "misspelt top field": (
        "seed: 1",
        "sed: 1",
        "toy.yaml:2: sed = 1: a recipe has no field 'sed'; did you mean 'seed'?",
    ),
    "seed out of range": ("seed: 1", "seed: -1", "toy.yaml:2: seed = -1: must be greater than or equal to 0"),
    "step name": ("  kept: {", "  k/pt: {", "toy.yaml:6: step name 'k/pt'"),
    "reserved step name": ("  kept: {", "  seed: {", "toy.yaml:6: step name 'seed'"),
    "recipe name": ("name: toy", "name: ../toy", "toy.yaml:1: name '../toy'"),
    "resources of no step": (
        "{workers: 1}",
        "{steps: {bse: {}}}",
        "toy.yaml:12: resources.steps has 'bse', but there is no step 'bse'; did you mean 'base'?",
    ),
    "misspelt resource": (
        "{workers: 1}",
        "{worker: 1}",
        "toy.yaml:12: resources.worker = 1: resources has no field 'worker'; did you mean 'workers'?",
    ),
    "misspelt resource of a step": (
        "{workers: 1}",
        "{steps: {base: {proceses: 2}}}",
        "toy.yaml:12: resources.steps.base.proceses = 2: resources has no field 'proceses'; did you",
    ),
    "resource out of range": (
        "{workers: 1}",
        "{workers: 0}",
        "toy.yaml:12: resources.workers = 0: must be greater than or equal to 1",
    ),
    "tag": ("letters: 4", "letters: !!python/name:os.system x", "toy.yaml:6: tag"),
}


def test_a_source_without_its_kind_is_told_the_kinds(tmp_path: Path) -> None:
    text = 'name: toy\nsteps:\n  pages: {task: collect, sources: [{knd: files, path: "a/*.html"}]}\n'
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "toy.yaml", tmp_path)
    said = str(caught.value)
    assert said.startswith("toy.yaml:3: pages.sources[0] = {'knd': 'files', 'path': 'a/*.html'} needs the field 'kind'")
    assert "one of files, http, jsonl, " in said
    assert said.endswith("; is 'knd' meant for it?")


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_wrong_is_said_with_place_value_and_remedy(name: str, tmp_path: Path) -> None:
    old, new, message = ERRORS[name]
    assert old in RECIPE
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.replace(old, new, 1), "toy.yaml", tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(RecipeError, match="values"):
        parse_recipe("\n".join(lines), "bomb.yaml", tmp_path)


def test_overrides_set_one_value_each(tmp_path: Path) -> None:
    overrides = ["kept.letters=7", "base.schedule.rate=5e-4", "seed=2", "resources.workers=4", "kept.words=[a, no]"]
    recipe = parse_recipe(RECIPE, "toy.yaml", tmp_path, overrides)
    keep, train = recipe.steps["kept"].task, recipe.steps["base"].task
    assert isinstance(keep, Keep)
    assert isinstance(train, Train)
    assert (keep.letters, keep.words, train.schedule.rate, recipe.seed) == (7, ["a", "no"], 5e-4, 2)
    assert recipe.steps["base"].resources.workers == 4


def test_an_override_makes_settings_that_the_recipe_does_not_mention(tmp_path: Path) -> None:
    text = RECIPE.replace("    schedule: {rate: 1e-3}\n", "")
    train = parse_recipe(text, "toy.yaml", tmp_path, ["base.schedule.warmup=3"]).steps["base"].task
    assert isinstance(train, Train)
    assert train.schedule.warmup == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kept.leters=4", "--set kept.leters=4: kept.leters = 4: keep has no field 'leters'; did you mean 'letters'?"),
        ("kep.letters=4", "--set kep.letters=4: there is no step 'kep'; did you mean 'kept'?"),
        ("kept.letters", "--set kept.letters: expected STEP.FIELD=VALUE"),
        ("kept=4", "--set kept=4: kept is a step"),
        ("kept.letters=-4", "--set kept.letters=-4: kept.letters = -4: must be greater than or equal to 0"),
        ("kept.letters.more=4", "--set kept.letters.more=4: kept.letters is a number; it has no field 'more'"),
        ("report.models[3]=base", "--set report.models[3]=base: report.models has 1 items"),
        ("kept.letters=[", "--set kept.letters=[:1: not valid YAML"),
        ("=4", "--set =4: expected STEP.FIELD=VALUE"),
        (
            "base.schedule=0.1",
            "--set base.schedule=0.1: base.schedule = 0.1: must be a mapping; its fields are rate, warmup",
        ),
        ("kept.letters=many", "--set kept.letters=many: kept.letters = 'many': must be a valid integer"),
        (
            "base.shedule.rate=1",
            "toy.yaml:7 with --set base.shedule.rate=1: base.shedule = {'rate': 1}: train has no field",
        ),
        ("documents.pages=kept", "--set documents.pages=kept: documents.pages: step 'kept' makes documents, not pages"),
        ("kept.documents=kept", "toy.yaml:6 with --set kept.documents=kept: steps wait for each other: kept → kept"),
    ],
)
def test_a_wrong_override_is_named_as_its_place(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE, "toy.yaml", tmp_path, [override])
    assert str(caught.value).startswith(message)


def test_what_is_wrong_of_a_whole_names_all_that_was_given_within_it() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", ["base.model.heads=7", "base.tokens=9", "base.model.heads=5", "base.model.width=64"])
    said = str(caught.value)
    line = r"quickstart\.yaml:\d+ with --set base\.model\.heads=5 with --set base\.model\.width=64: base\.model = "
    assert re.match(line, said), said
    assert said.endswith("width 64 is not a multiple of heads 5")
    with pytest.raises(RecipeError, match=r"^--set base\.model=\{heads: 5\}: base\.model: "):
        load_recipe("quickstart", ["base.model.width=64", "base.model={heads: 5}"])


def test_a_list_that_is_too_short_says_what_it_takes() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", ["base.optimizer.betas=[0.9]"])
    said = "--set base.optimizer.betas=[0.9]: base.optimizer.betas = [0.9]: it takes 2 values or more"
    assert str(caught.value) == said


def test_unknown_recipes_name_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="did you mean 'quickstart'"):
        load_recipe("quickstrat")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"name: a\n\xff\xfe\n")
    with pytest.raises(RecipeError, match=r"^binary.yaml:2: not UTF-8"):
        load_recipe("binary.yaml")


def test_a_path_in_a_recipe_starts_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/mine.yaml").folder == tmp_path / "recipes"
