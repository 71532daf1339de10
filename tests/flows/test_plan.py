"""What is built, what is reused, and the reasons given: seen by building a small recipe and changing one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import identities
from flows.home import Home
from flows.plan import Decision
from flows.why import outside_differences
from storage.errors import RecipeError, SourceError
from tests.flows.conftest import RECIPE, built, make_all, planner_of, statuses
from tests.flows.toys import Keep

RECIPE_OF_FILES = """
name: files
steps:
  pages: {{task: collect, sources: [{{kind: files, path: {folder}}}]}}
"""


def actions(decisions: dict[str, Decision]) -> dict[str, str]:
    return {name: decision.action for name, decision in decisions.items()}


def test_first_everything_is_built_then_nothing(home: Home) -> None:
    planned = planner_of(home).plan()
    assert list(actions(planned).values()) == ["build", "depends", "depends", "depends", "depends"]
    assert planned["pages"].why == "first build"
    assert planned["kept"].why == "waits for documents; first build"
    assert built(make_all(planner_of(home))) == ["pages", "documents", "kept", "base", "report"]
    assert set(actions(planner_of(home).plan()).values()) == {"reuse"}
    assert built(make_all(planner_of(home))) == []


def test_planning_builds_nothing(home: Home) -> None:
    planner = planner_of(home)
    planner.plan()
    assert planner.store.steps() == []
    assert list(planner.store.builds()) == []


def test_a_run_sees_the_files_as_they_were_when_it_was_planned(home: Home, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("one")
    text = RECIPE_OF_FILES.format(folder=tmp_path)
    planner = planner_of(home, text)
    before = planner.plan()["pages"].identity
    (tmp_path / "two.txt").write_text("two")
    assert planner.decide(planner.steps["pages"], {}).identity == before
    assert planner_of(home, text).plan()["pages"].identity != before


def test_a_changed_setting_rebuilds_its_step_and_what_its_bytes_change(home: Home) -> None:
    make_all(planner_of(home))
    planned = planner_of(home, RECIPE, "kept.letters=3").plan()
    assert actions(planned) == {
        "pages": "reuse",
        "documents": "reuse",
        "kept": "build",
        "base": "depends",
        "report": "depends",
    }
    assert planned["kept"].why == "letters 4 → 3"
    assert planned["base"].why == "waits for kept"
    assert planned["report"].why == "waits for base"
    assert built(make_all(planner_of(home, RECIPE, "kept.letters=3"))) == ["kept", "base", "report"]


def test_equal_bytes_stop_a_rebuild_early(home: Home) -> None:
    make_all(planner_of(home))
    outcomes = make_all(planner_of(home, RECIPE, "kept.letters=5", "kept.words=[no]"))
    assert built(outcomes) == ["kept"]
    assert statuses(outcomes)["base"] == "reused"


def test_a_setting_changed_back_is_found_again(home: Home) -> None:
    first = make_all(planner_of(home))
    make_all(planner_of(home, RECIPE, "kept.letters=6"))
    again = make_all(planner_of(home))
    assert built(again) == []
    assert again["report"].artifact == first["report"].artifact
    # and it is now the latest again
    assert planner_of(home).store.resolve("toy/kept") == first["kept"].artifact


def test_the_reason_names_every_difference(home: Home) -> None:
    make_all(planner_of(home))
    why = planner_of(home, RECIPE, "base.schedule.rate=2e-3", "base.schedule.warmup=5", "seed=2").plan()["base"].why
    assert why == "schedule.rate 0.001 → 0.002; schedule.warmup 10 → 5; seed 1 → 2"


def test_the_seed_counts_only_where_it_is_used(home: Home) -> None:
    make_all(planner_of(home))
    assert built(make_all(planner_of(home, RECIPE, "seed=2"))) == ["base", "report"]


def test_changed_code_is_named_by_file_and_symbol(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    make_all(planner_of(home))
    original = identities.code_of

    def edited(*modules: str) -> dict[str, dict[str, str]]:
        code = {name: dict(symbols) for name, symbols in original(*modules).items()}
        if "tests.flows.toys" in code:
            code["tests.flows.toys"]["clean_partition"] = "other"
            code["tests.flows.toys"]["Keep"] = "other"
        return code

    monkeypatch.setattr(identities, "code_of", edited)
    why = planner_of(home).plan()["pages"].why
    assert why == "code of tests/flows/toys.py changed: Keep, clean_partition"


def test_changed_libraries_are_named_with_versions(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    make_all(planner_of(home))
    monkeypatch.setattr(identities, "library_versions", lambda names: dict.fromkeys(names, "99.1"))
    planned = planner_of(home).plan()
    assert planned["pages"].action == "reuse"
    assert planned["documents"].why.startswith("pyarrow ")
    assert planned["documents"].why.endswith(" → 99.1")


def test_sources_of_files_say_how_many_there_are() -> None:
    def fingerprint(files: int, content: str) -> dict[str, object]:
        return {"files": files, "content": content}

    same = fingerprint(2, "z")
    old = {"sources": {"a": fingerprint(3, "x"), "b": fingerprint(1, "y"), "c": same}}
    new = {"sources": {"a": fingerprint(1004, "w"), "b": fingerprint(1, "v"), "c": same}}
    assert outside_differences(old, new) == [
        "source a changed: 3 → 1,004 files",
        "source b changed: what its files hold",
    ]
    assert outside_differences(old, old | {"limit": 10}) == ["source changed: 1 added"]


def test_changed_sources_and_partitions_are_counted(home: Home) -> None:
    make_all(planner_of(home))
    texts = home.folder.parent / "texts"
    (texts / "1.txt").write_text("Page 1, edited\n")
    (texts / "9.txt").write_text("a new one\n")
    planned = planner_of(home).plan()
    assert planned["pages"].why == "source changed: 1 added, 1 changed"
    outcomes = make_all(planner_of(home))
    assert outcomes["documents"].why == "input pages changed: 2 of 4 partitions"
    assert built(outcomes) == ["pages", "documents", "kept", "base", "report"]


def test_a_step_that_grows_takes_its_latest_artifact_along(home: Home) -> None:
    first = make_all(planner_of(home))
    assert built(make_all(planner_of(home))) == []
    (home.folder.parent / "texts" / "9.txt").write_text("a new one\n")
    second = make_all(planner_of(home))
    store = planner_of(home).store
    record = store.record_of(str(second["pages"].key))
    assert record is not None
    assert record.identity.previous == first["pages"].artifact
    seen = store.open(str(second["pages"].artifact)).path("seen.json").read_text()
    assert '"a new one": 2' in seen
    assert '"Page 1": 1' in seen
    assert built(make_all(planner_of(home))) == []


def test_a_pinned_step_keeps_its_artifact_while_only_its_inputs_change(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keep, "pinned", lambda self: True)
    new = home.folder.parent / "texts" / "9.txt"
    first = make_all(planner_of(home))
    new.write_text("a new one\n")
    planned = planner_of(home).plan()
    assert list(actions(planned).values()) == ["build", "depends", "reuse", "reuse", "reuse"]
    assert planned["kept"].why == "pinned, whatever comes of documents"
    second = make_all(planner_of(home))
    assert built(second) == ["pages", "documents"]
    assert second["kept"].artifact == first["kept"].artifact
    assert second["kept"].why == "pinned: input documents changed: 1 of 4 partitions"
    assert built(make_all(planner_of(home))) == []

    changed = planner_of(home, RECIPE, "kept.letters=3").plan()["kept"]
    assert (changed.action, changed.why) == ("build", "letters 4 → 3; input documents changed: 1 of 4 partitions")
    rebuilt = make_all(planner_of(home, rebuild=frozenset(["kept"])))
    assert rebuilt["kept"].status == "built"
    assert rebuilt["kept"].artifact != first["kept"].artifact
    # The latest one stays, though an earlier build had just these inputs.
    new.unlink()
    third = make_all(planner_of(home))
    assert "kept" not in built(third)
    assert third["kept"].artifact == rebuilt["kept"].artifact


def test_missing_objects_are_built_again(home: Home) -> None:
    outcomes = make_all(planner_of(home))
    store = planner_of(home).store
    for entry in store.manifest(str(outcomes["kept"].artifact)).files.values():
        Path(store.place.full(store.objects.name(entry.object))).unlink()
    planned = planner_of(home).plan()
    assert planned["kept"].why == "artifact is gone from the store"
    assert planned["base"].action == "depends"
    assert built(make_all(planner_of(home))) == ["kept"]


def test_until_leaves_out_what_comes_after(home: Home) -> None:
    assert list(planner_of(home, until="kept").plan()) == ["pages", "documents", "kept"]


def test_a_limited_run_keeps_to_itself(home: Home) -> None:
    limited = make_all(planner_of(home, limit=1))
    assert limited["pages"].metrics == {"pages": 3.0}
    full = make_all(planner_of(home))
    store = planner_of(home).store
    record = store.record_of(str(full["pages"].key))
    assert record is not None
    assert record.identity.previous is None
    assert {recipe for recipe, _ in store.steps()} == {"toy", "toy.limit1"}
    assert built(make_all(planner_of(home, limit=1))) == []


def test_reuse_accepts_the_latest_artifact_and_remembers_it(home: Home) -> None:
    first = make_all(planner_of(home))
    changed = ("kept.letters=6",)
    planned = planner_of(home, RECIPE, *changed, reuse=frozenset(["kept"])).plan()
    assert planned["kept"].why == "accepted by --reuse in spite of: letters 4 → 6"
    outcomes = make_all(planner_of(home, RECIPE, *changed, reuse=frozenset(["kept"])))
    assert built(outcomes) == []
    assert outcomes["kept"].artifact == first["kept"].artifact
    later = planner_of(home, RECIPE, *changed).plan()["kept"]
    assert later.action == "reuse"
    assert later.why.startswith("accepted by --reuse from build")
    record = planner_of(home).store.record_of(str(outcomes["kept"].key))
    assert record is not None
    assert record.accepted_from == first["kept"].key


def test_reuse_needs_something_to_reuse(home: Home) -> None:
    with pytest.raises(RecipeError, match="has no artifact to reuse yet"):
        planner_of(home, reuse=frozenset(["pages"])).plan()


def test_rebuild_builds_the_step_and_all_after_it_and_compares_bytes(home: Home) -> None:
    first = make_all(planner_of(home))
    rebuild = frozenset(["documents"])
    planned = planner_of(home, rebuild=rebuild).plan()
    assert list(actions(planned).values()) == ["reuse", "build", "build", "build", "build"]
    assert planned["documents"].why == "asked for by --rebuild"
    assert planned["base"].why == "comes after documents, which --rebuild builds afresh"
    outcomes = make_all(planner_of(home, rebuild=rebuild))
    assert built(outcomes) == ["documents", "kept", "base", "report"]
    for name in built(outcomes):
        assert outcomes[name].verdict == "same bytes as before"
        assert outcomes[name].key == first[name].key
        assert outcomes[name].artifact == first[name].artifact


def test_rebuild_of_a_step_that_grows_starts_from_the_same_artifact(home: Home) -> None:
    make_all(planner_of(home))
    (home.folder.parent / "texts" / "9.txt").write_text("a new one\n")
    second = make_all(planner_of(home))
    again = make_all(planner_of(home, rebuild=frozenset(["pages"])))
    assert again["pages"].artifact == second["pages"].artifact
    assert again["pages"].verdict == "same bytes as before"


def test_rebuild_says_when_bytes_differ(home: Home) -> None:
    text = RECIPE.replace("resources", "  odd: {task: chance, documents: kept}\nresources")
    make_all(planner_of(home, text))
    outcomes = make_all(planner_of(home, text, rebuild=frozenset(["odd"])))
    assert outcomes["odd"].verdict.startswith("OTHER BYTES than before")


@pytest.mark.parametrize("option", ["reuse", "rebuild"])
def test_options_name_unknown_steps(home: Home, option: str) -> None:
    with pytest.raises(RecipeError, match=f"--{option} kep: toy has no step 'kep'; did you mean 'kept'"):
        planner_of(home, **{option: frozenset(["kep"])})
    with pytest.raises(RecipeError, match="--until kep: toy has no step"):
        planner_of(home, until="kep")
    with pytest.raises(RecipeError, match="--limit 0"):
        planner_of(home, limit=0)


def test_an_empty_source_is_a_users_error(home: Home) -> None:
    with pytest.raises(SourceError, match="nowhere: no text files"):
        planner_of(home, RECIPE, "pages.folder=nowhere").plan()


def test_a_folder_takes_the_place_of_a_step(home: Home) -> None:
    folder = home.folder.parent / "mine"
    folder.mkdir()
    (folder / "config.json").write_text('{"letters": 5}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "photo.png").write_bytes(b"not a part of a model")
    text = RECIPE.replace("models: [base]", "models: [base, {path: mine}]")
    assert "waits for base" in planner_of(home, text).plan()["report"].why
    outcomes = make_all(planner_of(home, text))
    store = planner_of(home).store
    assert '"mine": 5' in store.open(str(outcomes["report"].artifact)).path("report.json").read_text()
    assert built(make_all(planner_of(home, text))) == []
    (folder / "config.json").write_text('{"letters": 6}')
    outcomes = make_all(planner_of(home, text))
    assert built(outcomes) == ["report"]
    assert outcomes["report"].why == "input models[1] changed"


def test_resources_change_nothing(home: Home) -> None:
    make_all(planner_of(home))
    assert built(make_all(planner_of(home, RECIPE, "resources.workers=2"))) == []
