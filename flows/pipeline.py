"""How a recipe becomes a run: one Prefect task run per step, in the order of the graph."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any, cast

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectConcurrentFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.home import Home
from flows.markdown import run_markdown, step_markdown
from flows.outcome import StepOutcome
from flows.plan import Options, Planner
from flows.prefect_artifacts import progress_bar, publish, publish_run
from flows.recipe import Step, load_recipe
from flows.run import INTERRUPTED, RunResult, Session
from model.launching import processes
from storage.errors import StoreUnavailable, TrainingFailed
from tasks.parallel import die_with_parent

RETRY_DELAYS = [2, 20]
"""Seconds before a step is tried again, where that can help."""
PLANNED: list[Planner] = []
"""What the command line has made of these very parameters before: it has looked at every source file already."""
RESULTS: dict[str, RunResult] = {}
"""What became of the runs of this process, by Prefect's flow run: for the command line's report."""
_AWAKE_SECONDS = 1.0
_GOODBYE_SECONDS = 5.0
"""How long an interrupted run tries to tell Prefect."""


@flow(name="athanor", persist_result=False, task_runner=ThreadPoolTaskRunner(max_workers=256))  # type: ignore[arg-type]
def pipeline(
    recipe: str,
    overrides: list[str] | None = None,
    until: str | None = None,
    limit: int | None = None,
    reuse: list[str] | None = None,
    rebuild: list[str] | None = None,
) -> State[Any]:
    """Build what the store does not hold yet.

    Args:
        recipe: Path of a YAML file, or the name of a recipe that ships.
        overrides: Values to set, each as STEP.FIELD=VALUE, such as unique.similarity=0.7.
        until: Build this step and what it needs, nothing else.
        limit: Take the first pages only, to try a recipe out.
        reuse: Steps whose latest artifact is accepted in spite of a changed key.
        rebuild: Steps to build afresh, with all that come after them.
    """
    if _is_deployed():
        die_with_parent()  # a deployment's run ends with the runner that started it
    options = Options(until, limit, frozenset(reuse or []), frozenset(rebuild or []))
    planner = PLANNED.pop() if PLANNED else _planner(recipe, overrides or [], options)
    name = planner.recipe.name
    session = Session(planner, str(flow_run.id), dict(flow_run.parameters), lambda step: progress_bar(name, step))
    futures: dict[str, PrefectConcurrentFuture[Any]] = {}
    try:
        for step in planner.steps.values():
            made = {need: futures[need] for need in step.needs}
            futures[step.name] = cast(PrefectConcurrentFuture[Any], step_task(step, session).submit(made))
        for future in futures.values():
            _wait(future)
    except (KeyboardInterrupt, TerminationSignal):
        _leave(session)
    return _final_state(session)


def _planner(recipe: str, overrides: list[str], options: Options) -> Planner:
    home, declared = Home.of_environment(), load_recipe(recipe, overrides)
    return Planner(declared, options, home.open_store(declared), home)


def _wait(future: PrefectConcurrentFuture[Any]) -> None:
    """Wait for a step's end; raises KeyboardInterrupt soon after Ctrl-C, even if a library swallowed it."""
    done = False
    while not done:
        future.wait(_AWAKE_SECONDS)
        done = future.wrapped_future.done()
        if INTERRUPTED.is_set():
            raise KeyboardInterrupt


def step_task(step: Step, session: Session) -> Task[[dict[str, Any]], State[Any]]:
    """The Prefect task that makes or finds the artifact of ``step``.

    The store alone decides what is reused, so Prefect's own caching is off; its state says Cached. It has no tags:
    for each, Prefect asks its server for a slot before a task may begin, and where SQLite is busy tries again after
    two seconds, then four.
    """

    @task(
        name=step.name,
        task_run_name=step.name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=[float(seconds) for seconds in RETRY_DELAYS],
        retry_condition_fn=_worth_another_try,
    )
    def make(made: dict[str, str]) -> State[Any]:
        outcome = session.make(step, made)
        if outcome.status == "reused":
            return Completed(name="Cached", message=outcome.why, data=outcome.artifact)
        session.afterwards(lambda: _publish_step(session, outcome))
        return Completed(message=outcome.headline, data=outcome.artifact)

    return make


def _publish_step(session: Session, outcome: StepOutcome) -> None:
    text = step_markdown(outcome, session.mlflow_link(outcome.step))
    publish(session.planner.recipe.name, outcome.step, text)


def _is_deployed() -> bool:
    """Whether a runner of Prefect's started this process."""
    return bool(os.environ.get("PREFECT__FLOW_RUN_ID"))


def _worth_another_try(task: Task[Any, Any], run: Any, state: State[Any]) -> bool:
    """A store out of reach or a training process that died may do better; a wrong recipe will not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (StoreUnavailable, TrainingFailed, ConnectionError, TimeoutError))


def _final_state(session: Session) -> State[Any]:
    result = session.close()
    RESULTS[result.run_id] = result
    summary = run_markdown(list(result.outcomes.values()), result.page, session.page_link(result))
    publish_run(result.recipe, "\n\n".join(filter(None, [summary, result.forgotten])))
    if result.status == "done":
        counts = [f"{sum(o.status == s for o in result.outcomes.values())} {s}" for s in ("built", "reused")]
        return Completed(message=", ".join(counts))
    return Failed(message="; ".join(f"{name}: {result.outcomes[name].why}" for name in result.errors))


def _leave(session: Session) -> None:
    """End this process at once: threads at work cannot be stopped otherwise, and what they did so far is kept.

    Training processes are told, and write a checkpoint first; workers see that their parent is gone,
    and end. A deployment's run is told of by the runner that cancelled it.
    """
    with suppress(KeyboardInterrupt):  # a second Ctrl-C: at once
        processes.stop_all()
    threading.Timer(_GOODBYE_SECONDS, os._exit, [130]).start()
    result = session.abandon()
    if not _is_deployed():
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(flow_run.id, Cancelled(message="interrupted"), force=True)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - we are leaving, whatever Prefect says
            session.terminal.say(f"Prefect was not told: {error}")
    os._exit(result.exit_status)
