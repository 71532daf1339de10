"""What Prefect and MLflow show of a step and of a run, as markdown: short, since their pages are for a glance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.outcome import StepOutcome
from flows.page.amounts import Amounts, amounts_of, largest
from flows.page.figures import replaced_words
from flows.page.funnel import bytes_words, percent
from flows.report import figure_text, said_of, seconds_text

_SAMPLES = 4
_SAMPLE_CHARACTERS = 1_000
_BAR = 40
"""Characters of the longest bar."""
_REASONS = 12
_SHOWN_ELSEWHERE = re.compile(r"(dropped|replaced|tagged)\.|(documents|bytes)_(in|out)$")
"""Figures that the bars show."""


def step_markdown(outcome: StepOutcome, link: str | None) -> str:
    """What a step made: its result, what it dropped and why, samples, its other figures, and where MLflow has it."""
    lines = [f"**{outcome.headline or outcome.kind}**", "", f"{outcome.status}: {outcome.why}", ""]
    lines += [f"artifact `{outcome.artifact}`, key `{outcome.key}`", ""]
    lines += [f"[MLflow run]({link})", ""] if link else []
    amount = amounts_of(outcome.metrics)
    if amount is not None:
        lines += ["```text", *_step_bars(amount, outcome.metrics), "```", ""]
    for sample in outcome.samples[:_SAMPLES]:
        lines += [f"### {_plain(sample['title'] or '')}", "", *sample_lines(sample, _SAMPLE_CHARACTERS), ""]
    others = {name: value for name, value in sorted(outcome.metrics.items()) if not _SHOWN_ELSEWHERE.match(name)}
    if others:
        lines += ["### Figures", "", "| figure | value |", "| --- | ---: |"]
        lines += [f"| {name} | {figure_text(value)} |" for name, value in others.items()]
    return "\n".join(lines)


def run_markdown(outcomes: Sequence[StepOutcome], page: Path | None, link: str | None) -> str:
    """What became of a run: a row and a bar a step, and where its page is."""
    lines = ["| step | status | time | result |", "| --- | --- | ---: | --- |"]
    for outcome in outcomes:
        took = seconds_text(outcome.seconds) if outcome.status != "skipped" else ""
        lines.append(f"| {outcome.step} | {outcome.status} | {took} | {_plain(said_of(outcome))} |")
    counted = {o.step: a for o in outcomes if (a := amounts_of(o.metrics)) is not None}
    if counted:
        lines += ["", "Documents that went into each step and came out (█ kept, ░ dropped):", "", "```text"]
        lines += [*_funnel(counted), "```"]
    if link:
        lines += ["", f"[The page of this run]({link}), with samples side by side, in MLflow."]
    if page:
        lines += ["", f"The same page as a file on the machine that ran it: `{page}`"]
    return "\n".join(lines)


def sample_lines(sample: Mapping[str, str | None], most: int | None = None) -> list[str]:
    """The texts of a sample in blocks, one below the other, each under what it is."""
    before, after = (sample.get("before") or "")[:most], sample.get("after")
    place = [f"`{_plain(sample['place'] or '')}`", ""] if sample.get("place") else []
    if after is None:
        return [*place, *fenced(before)]
    names = (sample.get("before_is") or "before", sample.get("after_is") or "after")
    return [*place, f"{names[0]}:", "", *fenced(before), "", f"{names[1]}:", "", *fenced(after[:most])]


def fenced(text: str) -> list[str]:
    """The text in a block that nothing in it can end."""
    longest = max((len(run) for run in re.findall("~+", text)), default=0)
    fence = "~" * max(3, longest + 1)
    return [f"{fence}text", text, fence]


def _plain(text: str) -> str:
    """One line that is no markdown: neither HTML nor the end of a table's cell."""
    return re.sub(r"[<>|`\[\]]", lambda match: f"&#{ord(match[0])};", " ".join(text.split()))


def _step_bars(amount: Amounts, metrics: Mapping[str, float]) -> list[str]:
    """What was kept, and what was dropped by reason as bars of text, which every viewer of markdown shows."""
    whole = amount.documents_in
    kept = f" of {whole:,} documents kept ({percent(amount.kept, whole)})" if whole else " documents"
    lines = [f"{amount.kept:,}{kept}", *([f"{amount.added:,} documents added"] if amount.added else [])]
    lines += filter(None, [bytes_words(amount), replaced_words(metrics)])
    unexplained = {"no reason counted": amount.unexplained} if amount.unexplained else {}
    reasons = dict(largest(amount.dropped, _REASONS, "{} other reasons")) | unexplained
    if reasons:
        width, most = max(len(name) for name in reasons), max(reasons.values())
        bars = [
            f"{name:{width}}  {_bar(count, most):{_BAR}}  {count:>9,}  {percent(count, whole):>7}"
            for name, count in reasons.items()
        ]
        lines += ["", "dropped, by reason:", *bars]
    return lines


def _funnel(amounts: Mapping[str, Amounts]) -> list[str]:
    widest = max(max(a.documents_in, a.documents_out) for a in amounts.values())
    width = max(len(step) for step in amounts)
    lines = []
    for step, amount in amounts.items():
        kept = _bar(amount.documents_out, widest)
        lost = _bar(max(0, amount.documents_in - amount.documents_out), widest).replace("█", "░")
        words = f"{amount.documents_out:,} of {amount.documents_in:,}"
        lines.append(f"{step:{width}}  {(kept + lost)[:_BAR]:{_BAR}}  {words}")
    return lines


def _bar(count: int, whole: int) -> str:
    return "█" * max(1, round(_BAR * count / whole)) if count and whole else ""
