"""The page of a run, put together: head, funnel, and a section for every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files

from flows.artifacts import bytes_text
from flows.outcome import StepOutcome
from flows.page.amounts import Amounts, amounts_of, beginnings
from flows.page.curves import draw, losses, sharpest_rise
from flows.page.figures import breakdowns, measured, measures, plain_figures, replaced_words
from flows.page.funnel import FunnelStep, funnel
from flows.page.markup import Markup, element, foreign, joined, link
from flows.page.samples import samples
from flows.report import said_of, seconds_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Nothing is fetched and nothing is run, even if a text should get through as HTML."""


_CORPORA = ("pages", "documents", "examples")


@dataclass(frozen=True)
class ShownStep:
    """A step as the page shows it."""

    outcome: StepOutcome
    needs: tuple[str, ...]
    settings: str
    """What the recipe says of it, as YAML."""
    mlflow: str | None = None
    """Address of the MLflow run that built it."""


@dataclass(frozen=True)
class ShownRun:
    """A run as the page shows it."""

    recipe: str
    run_id: str
    status: str
    began: datetime
    seconds: float
    steps: Sequence[ShownStep]
    host: str = ""
    restriction: str = ""
    """How the run differed from the whole recipe: ``--limit 100``."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Name → address of pages about the run."""


def document(run: ShownRun) -> str:
    """The page as HTML."""
    title = f"{run.recipe} · {run.status} · {run.began:%Y-%m-%d %H:%M}"
    style = files("flows.page").joinpath("style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        Markup(f"<style>{style}</style>"),
    )
    return f"<!doctype html>\n{element('html', head, element('body', element('main', _content(run))), lang='en')}\n"


def _content(run: ShownRun) -> Markup:
    counted = {step.outcome.step: amounts_of(step.outcome.metrics) for step in run.steps}
    amounts = {name: amount for name, amount in counted.items() if amount is not None}
    parts = [_head(run), _cards(run, amounts), element("section", element("h2", "Steps"), _table(run.steps))]
    if amounts:
        parts.append(_funnel(run.steps, amounts))
    parts += [_step(step) for step in run.steps if step.outcome.status != "skipped"]
    parts.append(_foot())
    return joined(*parts)


def _funnel(steps: Sequence[ShownStep], amounts: Mapping[str, Amounts]) -> Markup:
    note = (
        "Documents that went into each step and came out of it; the bars of documents have one scale. "
        "Of a step that was reused, these are the figures of the build that made it."
    )
    starts = beginnings({step.outcome.step: step.needs for step in steps}, amounts)
    shown = [
        FunnelStep(
            name=step.outcome.step,
            task=step.outcome.task,
            needs=step.needs,
            amount=amounts[step.outcome.step],
            note=replaced_words(step.outcome.metrics),
            sampled=frozenset(str(sample["title"]) for sample in step.outcome.samples),
        )
        for step in steps
        if step.outcome.step in amounts
    ]
    return element("section", element("h2", "Funnel"), element("p", note, class_="quiet"), funnel(shown, starts))


def _head(run: ShownRun) -> Markup:
    facts = [
        element("span", f"{run.began:%Y-%m-%d %H:%M:%S} UTC"),
        element("span", f"took {seconds_text(run.seconds)}"),
        element("span", f"on {run.host}") if run.host else None,
        element("span", run.restriction) if run.restriction else None,
        element("span", "run ", element("span", run.run_id, class_="digest")),
        *(link(address, name) for name, address in run.links.items()),
    ]
    title = element("div", element("h1", run.recipe), _pill(run.status), class_="top")
    return element("header", title, element("div", *facts, class_="facts"))


def _pill(status: str) -> Markup:
    return element("span", status, class_=f"pill {status}")


def _cards(run: ShownRun, amounts: Mapping[str, Amounts]) -> Markup:
    """The few figures that say what the run came to."""
    corpora = {s.outcome.step: s for s in run.steps if s.outcome.kind in _CORPORA and s.outcome.step in amounts}
    taken = {need for step in corpora.values() for need in step.needs}
    cards = []
    for name in [name for name in corpora if name not in taken]:
        amount = amounts[name]
        size = f", {bytes_text(amount.bytes_out)}" if amount.bytes_out is not None else ""
        cards.append((f"{amount.documents_out:,}", f"documents in {name}{size}"))
    said = {s.outcome.kind: (s.outcome.headline, s.outcome.step) for s in run.steps if s.outcome.headline}
    cards += [said[kind] for kind in ("shards", "model", "report") if kind in said]
    statuses = [step.outcome.status for step in run.steps]
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    cards.append((seconds_text(run.seconds), ", ".join(f"{n} {status}" for status, n in counts.items())))
    drawn = (element("div", element("b", figure), element("span", what), class_="card") for figure, what in cards)
    return element("div", *drawn, class_="cards")


def _table(steps: Sequence[ShownStep]) -> Markup:
    names = ("step", "task", "status", "time", "artifact", "result", "why")
    head = element("tr", *(element("th", name, class_="number" if name == "time" else None) for name in names))
    return element(
        "table", element("thead", head), element("tbody", *(_table_row(s.outcome) for s in steps)), class_="steps"
    )


def _table_row(outcome: StepOutcome) -> Markup:
    name: Markup | str = outcome.step
    if outcome.status != "skipped":
        name = element("a", outcome.step, href=f"#step-{outcome.step}")
    said = said_of(outcome) if outcome.status in ("built", "reused") else ""
    return element(
        "tr",
        element("td", name),
        element("td", outcome.task, class_="quiet"),
        element("td", outcome.status, class_=outcome.status),
        element("td", seconds_text(outcome.seconds) if outcome.status != "skipped" else "", class_="number"),
        element("td", (outcome.artifact or "")[:12], class_="digest"),
        element("td", foreign(said)),
        element("td", foreign(outcome.why), class_="quiet"),
    )


def _step(step: ShownStep) -> Markup:
    outcome = step.outcome
    head = element("h2", outcome.step, " ", element("span", outcome.task, class_="quiet"))
    facts = [
        _pill(outcome.status),
        element("span", foreign(said_of(outcome))) if outcome.status != "failed" else None,
        element("span", _when_built(outcome)) if outcome.status == "reused" else None,
        link(step.mlflow, "MLflow run") if step.mlflow else None,
    ]
    parts: list[Markup | None] = [head, element("div", *facts, class_="facts")]
    if outcome.status == "failed":
        parts.append(element("p", foreign(outcome.why), class_="error"))
    parts.append(_settings(step.settings))
    parts.append(measures(measured(outcome.metrics)))
    curves = losses(outcome.curves)
    parts += [element("h3", "Loss (nats per token)"), draw(curves)] if curves else []
    rose = sharpest_rise(outcome.curves)
    if rose is not None and outcome.artifact is not None:
        command = f"athanor show {outcome.artifact[:12]} --step {rose}"
        parts.append(
            element("p", f"It rose most at step {rose:,}; whose documents were in it: ", element("code", command))
        )
    parts.append(breakdowns(outcome))
    shown = samples(outcome.step, outcome.samples, outcome.metrics)
    parts += [element("h3", "Samples"), shown] if shown else []
    parts.append(plain_figures(outcome.metrics))
    return element("section", *parts, id=f"step-{outcome.step}")


def _when_built(outcome: StepOutcome) -> str:
    if outcome.built_at is None:
        return ""
    return f"built {outcome.built_at:%Y-%m-%d %H:%M} UTC in {seconds_text(outcome.build_seconds)}"


def _settings(settings: str) -> Markup | None:
    if not settings:
        return None
    return element("details", element("summary", "Settings"), foreign(settings, "pre"), class_="settings")


def _foot() -> Markup:
    drawn = "Samples are drawn as if by chance, and are the same whoever builds; long texts are cut."
    return element("footer", element("p", f"{drawn} This page holds all that it shows: it fetches nothing."))
