"""Starting a run from the command line: a Prefect API, the flow, and the words that end it."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from flows.plan import Decision, Planner
from flows.report import run_table, sample_text
from flows.run import INTERRUPTED, PREFECT_PORT, RunResult, mlflow_address, traceback_of
from flows.servers import prefect_api, prefect_environment, running_up
from flows.tracking import start_early
from storage.errors import BrokenError
from storage.without_pandas import without_pandas
from tasks.parallel import start_workers

_SETTLE_SECONDS = 10.0
"""How long a temporary server is given to write down what became of the task runs."""


def run_pipeline(planner: Planner, given: argparse.Namespace) -> RunResult:
    """Run the pipeline in this process; raises BrokenError if Prefect cannot be reached."""
    os.environ.update(prefect_environment(planner.home))
    # What goes wrong is said once, by us; Prefect's own lines go to its database.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # An interrupted run leaves without tidying up; its semaphores are freed all the same.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    start_early(planner.home)
    without_pandas()
    with prefect_api(planner.home, _import_pipeline) as temporary:
        from flows import pipeline

        parameters: dict[str, Any] = {
            "recipe": given.recipe,
            "overrides": given.set,
            "until": given.until,
            "limit": given.limit,
            "reuse": given.reuse,
            "rebuild": given.rebuild,
        }
        pipeline.PLANNED.append(planner)
        flow = pipeline.pipeline.with_options(name=planner.recipe.name)
        _stop_heartbeats()
        gc.freeze()
        gc.enable()
        try:
            state = flow(**parameters, return_state=True)
        except BaseException as error:
            if type(error).__module__.startswith(("httpx", "httpcore", "prefect")):
                raise BrokenError(
                    f"Prefect at {os.environ['PREFECT_API_URL']} stopped answering ({type(error).__name__}: {error}); "
                    "what is finished is kept: run the same command again"
                ) from error
            raise
        if not pipeline.RESULTS:
            raise BrokenError(f"the run ended before its first step: {state.message}")
        result = pipeline.RESULTS.popitem()[1]
        settle(result.run_id, wait=temporary)
    return result


def _stop_heartbeats() -> None:
    """Have a flow's end not wait for the thread that tells Prefect every three minutes that the flow is alive.

    It sleeps a second at a time. Whoever starts a run in a terminal sees it live; what the user has set stays.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings().flows
    if "heartbeat_frequency" not in settings.model_fields_set:
        settings.heartbeat_frequency = None


def start_workers_for(planner: Planner, decisions: Mapping[str, Decision]) -> None:
    """Have the data steps' workers start while Prefect is imported, if anything is to be built."""
    waiting = [planner.steps[name] for name, decision in decisions.items() if decision.action != "reuse"]
    at_work = [step for step in waiting if not step.task.trains]
    if at_work:
        start_workers(at_work[0].resources, sorted({type(step.task).__module__ for step in at_work}))


def _import_pipeline(address: str) -> None:
    """Prefect reads its settings while it is imported, which takes seconds: time enough for a server to start."""
    os.environ["PREFECT_API_URL"] = address
    import flows.pipeline  # noqa: F401


def _interrupt(number: int, frame: FrameType | None) -> None:
    INTERRUPTED.set()
    raise KeyboardInterrupt


def settle(run_id: str, *, wait: bool) -> None:
    """Send Prefect what is still to be sent. How the task runs ended travels as events, which a server reads later.

    ``wait``: until it has written them down, for a server that ends with the run.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=_SETTLE_SECONDS)
    APILogWorker.drain_all(timeout=_SETTLE_SECONDS)
    if not wait:
        return
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))  # type: ignore[list-item]
    end = time.monotonic() + _SETTLE_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            runs = client.read_task_runs(flow_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=200)
            states = [run.state for run in runs]
            if states and all(state is not None and (state.is_final() or state.name == "NotReady") for state in states):
                return
            time.sleep(0.2)


def closing_words(planner: Planner, result: RunResult) -> str:
    """The table, a sample of what the model writes, and where to look."""
    parts = [run_table(list(result.outcomes.values()))]
    parts += [result.forgotten] if result.forgotten else []
    sample = sample_text(list(result.outcomes.values()))
    parts += [sample] if sample else []
    parts += [traceback_of(error).rstrip() for error in result.errors.values() if traceback_of(error)]
    parts.append(_where_to_look(planner, result))
    return "\n\n".join(parts)


def _where_to_look(planner: Planner, result: RunResult) -> str:
    addresses = running_up(planner.home)
    prefect = os.environ.get("PREFECT_API_URL", "").removesuffix("/api") if not addresses else addresses.prefect
    lines = [f"the page of this run: {result.page}", ""] if result.page else []
    if not addresses:
        lines.append("the pages of Prefect and MLflow: run `athanor up` in this folder, then open")
        prefect = f"http://127.0.0.1:{PREFECT_PORT}"
    lines.append(f"  Prefect  {prefect}/runs/flow-run/{result.run_id}")
    if result.mlflow.get("run"):
        page = f"#/experiments/{result.mlflow['experiment']}/runs/{result.mlflow['run']}"
        lines.append(f"  MLflow   {mlflow_address(planner, addresses)}/{page}")
    return "\n".join(lines)
