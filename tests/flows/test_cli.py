"""The command line as a user types it: exit statuses, what is printed where, and nothing heavy imported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flows import cli
from flows.artifacts import description_text
from flows.home import Home
from flows.recipe import load_recipe
from flows.recipes import SHIPPED, shipped_recipes
from flows.report import figure_text
from flows.schema import recipe_schema
from flows.yaml_tree import load_tree
from tests.flows.conftest import RECIPE, make_all, planner_of
from tests.made import made_shards, made_tokenizer


@pytest.fixture
def recipe(home: Home) -> Path:
    path = home.folder.parent / "toy.yaml"
    path.write_text(RECIPE)
    return path


def athanor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert athanor(*arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_plan_says_what_and_why(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert athanor("plan", "toy.yaml") == 0
    assert "documents  depends  waits for pages; first build" in capsys.readouterr().out
    plan = printed(capsys, "plan", "toy.yaml", "--set", "kept.letters=5", "--until", "kept", "--json")
    assert plan["recipe"] == "toy"
    assert plan["steps"]["kept"] == {"action": "depends", "why": "waits for documents; first build"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "quickstrat"), "did you mean 'quickstart'"),
        (("run", "toy.yaml", "--set", "kept.leters=4"), "did you mean 'letters'"),
        (("run", "toy.yaml", "--rebuild", "kep"), "did you mean 'kept'"),
        (("run", "toy.yaml", "--set", "pages.folder=nowhere"), "nowhere: no text files in it"),
        (("show", "toy/kept"), "no step 'toy/kept' has been built"),
        (("show", "nonsense"), "no artifact 'nonsense'"),
        (("export", "toy/kept@3", "out"), "no step 'toy/kept' has been built"),
    ],
)
def test_a_users_error_is_one_line_and_status_2(
    recipe: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert athanor(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_a_misused_command_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert athanor("plan") == 2
    assert athanor("fly") == 2
    assert athanor("run", "toy.yaml", "--limit", "many") == 2


def test_artifacts_are_listed_shown_and_traced(home: Home, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = make_all(planner_of(home))
    digest = str(outcomes["kept"].artifact)
    listed = printed(capsys, "list", "--json")
    assert {row["name"] for row in listed["artifacts"]} == {f"toy/{name}" for name in outcomes}
    assert athanor("alias", "toy/kept", "good") == 0
    for name in (digest, digest[:8], "toy/kept", "toy/kept@1", "good"):
        shown = printed(capsys, "show", name, "--json")
        assert (shown["artifact"], shown["kind"]) == (digest, "documents")
    assert shown["names"] == ["good", "toy/kept@1"]
    assert shown["builds"][0]["identity"]["settings"]["letters"] == 4
    traced = printed(capsys, "lineage", "toy/report", "--json")
    base = traced["inputs"]["models[0]"]
    assert base["inputs"]["data"]["artifact"] == digest
    assert base["inputs"]["data"]["inputs"]["documents"]["inputs"]["pages"]["kind"] == "pages"
    for command in (("list",), ("show", "good"), ("lineage", "toy/report")):
        assert athanor(*command) == 0
        assert digest[:12] in capsys.readouterr().out


def test_verify_finds_a_tampered_object(home: Home, recipe: Path) -> None:
    outcomes = make_all(planner_of(home))
    assert athanor("verify") == 0
    store = planner_of(home).store
    entry = next(iter(store.manifest(str(outcomes["kept"].artifact)).files.values()))
    path = Path(store.place.full(store.objects.name(entry.object)))
    path.chmod(0o644)
    path.write_bytes(b"x" * entry.bytes)
    assert athanor("verify", "toy/pages") == 0
    assert athanor("verify", "toy/kept") == 1
    assert athanor("verify") == 1


def test_gc_says_first_and_keeps_what_is_named(home: Home, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for letters in range(1, 6):
        make_all(planner_of(home, RECIPE, f"base.schedule.rate={letters}"))
    store = planner_of(home).store
    first = store.resolve("toy/base@1")
    store.set_alias("champion", store.resolve("toy/base@2"))
    assert athanor("gc", "--dry-run") == 0
    assert "would free" in capsys.readouterr().out
    assert store.is_whole(first)
    assert athanor("gc") == 0
    assert "freed" in capsys.readouterr().out
    assert not store.is_whole(first)
    assert store.is_whole(store.resolve("champion"))
    assert athanor("show", "toy/base@1") == 2


def test_export_writes_plain_files(home: Home, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_all(planner_of(home))
    assert athanor("export", "toy/base", "out") == 0
    exported = home.folder.parent / "out" / "config.json"
    assert json.loads(exported.read_text())["letters"] > 0
    assert not exported.is_symlink()
    assert os.access(exported, os.W_OK)
    assert athanor("export", "toy/base", "out") == 2


def test_export_of_shards_as_token_files(
    home: Home, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = made_shards(tmp_path / "made", made_tokenizer(tmp_path / "tokenizer"), {"train": ["ab", "c"]})
    store = home.open_store()
    digest = store.adopt("shards", {name: shards.path(name) for name in shards.names()}).digest
    assert athanor("export", digest, "out", "--format", "nanogpt") == 0
    out = home.folder.parent / "out"
    assert "2 files in out" in capsys.readouterr().out
    assert (out / "train.bin").stat().st_size == 2 * len("ab?c?")
    assert (out / "val.bin").stat().st_size == 0
    assert (out / "tokenizer" / "tokenizer.json").is_file()
    assert athanor("export", digest, "out", "--format", "megatron") == 2
    assert "not an empty folder" in capsys.readouterr().err
    make_all(planner_of(home))
    assert athanor("export", "toy/base", "other", "--format", "megatron") == 2
    assert "of kind model; only shards are token files" in capsys.readouterr().err


def test_generate_wants_a_model(home: Home, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_all(planner_of(home))
    assert athanor("generate", "toy/kept", "--prompt", "x") == 2
    assert "is of kind documents, not a model" in capsys.readouterr().err


def test_a_prefect_out_of_reach_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>A page.</p>")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsteps:\n  pages: {task: collect, sources: [{kind: files, path: '*.html'}]}\n"
    )
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        ended = subprocess.run(
            [str(Path(sys.executable).parent / "athanor"), "run", "mine.yaml"],
            env={**os.environ, "ATHANOR_HOME": str(tmp_path / "home"), "PREFECT_API_URL": address},
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines() == [
        f"athanor: PREFECT_API_URL: no Prefect server answers at {address}; start it, or unset PREFECT_API_URL"
    ]


def test_nothing_heavy_is_imported_to_plan(home: Home) -> None:
    code = (
        "import sys\nfrom flows import cli\n"
        "try:\n    cli.main(['plan', 'quickstart'])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'prefect', 'mlflow', 'transformers', 'deepspeed', 'trafilatura', 'sentencepiece'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(cli.__file__).parents[1], check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_that_ship_can_be_planned_and_fit_the_schema(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    content = load_tree((SHIPPED / f"{name}.yaml").read_text(), name).value
    validator = jsonschema.Draft202012Validator(recipe_schema())
    validator.validate(content)
    step = next(iter(content["steps"].values()))
    step["sorces"] = []
    assert list(validator.iter_errors(content))


def test_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    schema = printed(capsys, "schema")
    jsonschema.Draft202012Validator.check_schema(schema)


def test_figures_are_shown_whole_and_long_lists_of_files_cut() -> None:
    files = {f"part-{number:05}.parquet": {"object": "a" * 64, "bytes": 1} for number in range(100)}
    content = {"artifact": "a" * 64, "kind": "documents", "bytes": 100, "counts": {"tokens": 1_043_681}, "names": []}
    shown = description_text({**content, "files": files, "builds": []})
    assert "tokens: 1,043,681" in shown
    assert shown.count(".parquet") == 30
    assert shown.endswith("… and 70 more; --json names them all")
    assert [figure_text(value) for value in (2_785_180.0, 0.195680, 1e-7, None)] == [
        "2,785,180",
        "0.19568",
        "1e-07",
        "",
    ]
