"""Whole runs, with a real Prefect API and a real MLflow database."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.home import Home
from flows.journal import journals
from flows.run import RunResult
from tests.flows.conftest import RECIPE, planner_of

pytestmark = pytest.mark.usefixtures("mlflow_database")

BROKEN = RECIPE.replace(
    "resources",
    "  odd: {task: breaks, documents: documents}\n  after: {task: keep, documents: odd}\nresources",
)


def run(home: Home, text: str = RECIPE, **parameters: Any) -> RunResult:
    """Run the recipe in ``text`` as the command line does."""
    from flows import pipeline

    path = home.folder.parent / "toy.yaml"
    path.write_text(text)
    pipeline.pipeline.with_options(name="toy")(recipe=str(path), **parameters, return_state=True)
    return pipeline.RESULTS.popitem()[1]


def task_states(result: RunResult) -> dict[str, str]:
    """Prefect's state of every task run, once it has been written down."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    from flows.start import settle

    settle(result.run_id, wait=True)
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[result.run_id]))  # type: ignore[list-item]
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=50)
    return {run.name: str(run.state_name) for run in runs}


def mlflow_runs(home: Home) -> dict[str, list[Any]]:
    """MLflow's runs by step (``""`` for whole runs), latest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(home.tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    found: dict[str, list[Any]] = {}
    for entry in client.search_runs([experiment.experiment_id], order_by=["start_time DESC"]):
        found.setdefault(entry.data.tags.get("athanor.step", ""), []).append(entry)
    return found


def check_pages(home: Home, results: list[RunResult]) -> None:
    """Every run has left its page: as a file, in MLflow, and in words with its flow run in Prefect."""
    from mlflow.artifacts import load_text
    from mlflow.tracking import MlflowClient
    from prefect.client.orchestration import get_client

    client = MlflowClient(home.tracking_uri)
    for result in results:
        assert result.page is not None
        assert result.page.is_relative_to(home.reports)
        page = result.page.read_text()
        assert all(f'href="#step-{name}"' in page for name, o in result.outcomes.items() if o.status != "skipped")
        run = client.get_run(result.mlflow["run"])
        assert load_text(f"{run.info.artifact_uri}/report.html") == page
        wanted = {"artifacts": {"flow_run_id": {"any_": [result.run_id]}}}
        with get_client(sync_client=True) as prefect:
            shown = {
                found["key"]: found["data"]
                for found in prefect.request("POST", "/artifacts/filter", json=wanted).json()
            }
        assert str(result.page) in shown["toy-run"]
        assert f"/runs/{result.mlflow['run']}/artifacts/report.html" in shown["toy-run"]
    assert home.reports.joinpath("toy.html").read_text() == page
    assert "breaks: nothing left; do otherwise" in page
    assert "needs odd, which failed" in page


def test_a_run_its_repetition_and_a_broken_step(home: Home, prefect_server: str) -> None:
    from mlflow.tracking import MlflowClient

    first = run(home)
    assert {name: outcome.status for name, outcome in first.outcomes.items()} == dict.fromkeys(first.outcomes, "built")
    assert (first.status, first.exit_status) == ("done", 0)
    assert task_states(first) == dict.fromkeys(first.outcomes, "Completed")

    second = run(home)
    assert {outcome.status for outcome in second.outcomes.values()} == {"reused"}
    assert task_states(second) == dict.fromkeys(first.outcomes, "Cached")

    broken = run(home, BROKEN)
    statuses = {name: outcome.status for name, outcome in broken.outcomes.items()}
    assert statuses == dict.fromkeys(first.outcomes, "reused") | {"odd": "failed", "after": "skipped"}
    assert broken.outcomes["odd"].why == "breaks: nothing left; do otherwise"
    assert broken.outcomes["after"].why == "needs odd, which failed"
    assert (broken.status, broken.exit_status) == ("failed", 1)
    assert task_states(broken)["odd"] == "Failed"

    check_pages(home, [first, second, broken])
    printed = json.loads(json.dumps(first.as_json()))
    assert set(printed) == {"recipe", "run_id", "status", "seconds", "steps"}
    assert (printed["recipe"], printed["status"]) == ("toy", "done")
    for step in printed["steps"].values():
        assert set(step) == {"task", "status", "key", "artifact", "seconds", "metrics", "why"}

    client, runs = MlflowClient(home.tracking_uri), mlflow_runs(home)
    assert len(runs[""]) == 3
    built = runs["base"][-1]
    assert built.info.status == "FINISHED"
    assert built.data.params["schedule.rate"] == "0.001"
    assert built.data.metrics["loss"] == pytest.approx(1.0)
    assert [m.value for m in client.get_metric_history(built.info.run_id, "loss")] == pytest.approx([3.0, 1.5, 1.0])
    assert built.inputs.dataset_inputs[0].dataset.name == "kept"
    assert built.data.tags["mlflow.parentRunId"] == runs[""][-1].info.run_id
    files = {file.path for file in client.list_artifacts(built.info.run_id)}
    assert {"manifest.json", "pictures", "README.md"} <= files
    assert "samples.md" in {file.path for file in client.list_artifacts(runs["documents"][-1].info.run_id)}
    reused = runs["base"][0]
    assert reused.data.tags["athanor.outcome"] == "reused"
    assert reused.data.tags["athanor.built_by"] == built.info.run_id
    assert runs["odd"][0].info.status == "FAILED"
    version = client.get_model_version_by_alias("toy.base", "current")
    assert version.tags["athanor.artifact"] == first.outcomes["base"].artifact
    assert version.description.startswith("# toy/base\n")
    build = planner_of(home).store.record_of(str(first.outcomes["base"].key))
    assert build is not None
    assert build.mlflow_run == built.info.run_id
    assert journals(home.outbox) == []


def test_without_mlflow_the_build_goes_on_and_the_records_arrive_later(
    home: Home, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        home.reports.write_text("in the way of the run's page, which must not cost the run")
        first = run(home, until="kept")
    assert (first.status, first.exit_status, first.page) == ("done", 0, None)
    home.reports.unlink()
    assert len(journals(home.outbox)) == 1
    run(home, until="kept")
    assert journals(home.outbox) == []
    runs = mlflow_runs(home)
    assert [r.data.tags["athanor.outcome"] for r in runs["kept"]] == ["reused", "built"]
    assert len(runs[""]) == 2


def test_an_interrupted_build_is_one_run_in_mlflow(home: Home, prefect_server: str) -> None:
    from flows.journal import Journal
    from flows.senders import finish_sender, start_sender

    key = "k" * 64
    started = {"step": "base", "task": "train", "key": key, "settings": {"rate": 1}, "seed": 1, "libraries": {}}
    started |= {"resources": {}, "inputs": []}
    built = {"step": "base", "key": key, "artifact": "a" * 64, "address": "x", "seconds": 1.0, "metrics": {}}
    built |= {"manifest": {"kind": "documents", "files": {}, "counts": {}}, "headline": "", "samples": []}
    for number, (first, last) in enumerate([(0, 5), (3, 8)]):
        journal = Journal(home.outbox, f"run{number}")
        journal.append("run_started", recipe="toy", run_id=f"run{number}", parameters={}, sender=0)
        journal.append("step_started", **started)
        journal.append("points", step="base", rows=[{"step": n, "loss": float(n)} for n in range(first, last)])
        if number == 1:
            journal.append("step_built", **built)
            journal.append("run_ended", status="done", steps={})
        journal.close()
        assert finish_sender(start_sender(home))["failure"] is None
        assert journals(home.outbox) == []
    from mlflow.tracking import MlflowClient

    runs = mlflow_runs(home)
    assert len(runs["base"]) == 1
    history = MlflowClient(home.tracking_uri).get_metric_history(runs["base"][0].info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(n, float(n)) for n in range(8)]
    assert runs["base"][0].info.status == "FINISHED"
    assert sorted(entry.info.status for entry in runs[""]) == ["FINISHED", "KILLED"]
