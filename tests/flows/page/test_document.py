"""The page of a run: what it says, what it must not let through, and where it lies."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.home import Home
from flows.outcome import StepOutcome
from flows.page import file
from flows.page.document import ShownRun, ShownStep, document
from flows.page.file import latest, write_page
from flows.plan import Planner
from flows.run import settings_text
from tests.flows.conftest import RECIPE, make_all, planner_of

BEGAN = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
HOSTILE = "</pre><script>alert(1)</script>\x00\u202e<img src=//evil.example/x onerror=alert(1)>炉"
HARMLESS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "article", "div"),
    *("span", "b", "i", "p", "a", "h1", "h2", "h3", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "pre"),
    *("bdi", "del", "ins", "details", "summary", "svg", "g", "line", "polyline", "text"),
}


class Found(HTMLParser):
    """Elements, their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.names: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def parsed(page: str) -> Found:
    found = Found()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def shown(
    planner: Planner, outcomes: dict[str, StepOutcome], status: str = "done", began: datetime = BEGAN
) -> ShownRun:
    steps = [
        ShownStep(outcome, tuple(planner.steps[name].needs), settings_text(planner.steps[name]))
        for name, outcome in outcomes.items()
    ]
    return ShownRun("toy", f"{began:%S%f}-0123", status, began, 12.3, steps)


def page_of(home: Home, text: str = RECIPE, *overrides: str) -> str:
    planner = planner_of(home, text, *overrides)
    return document(shown(planner, make_all(planner)))


def words(page: str) -> str:
    return " ".join(parsed(page).text.split())


def test_the_page_says_what_went_in_what_came_out_and_why(home: Home) -> None:
    page = page_of(home)
    said = words(page)
    assert "toy" in said
    assert "6 of 9 documents" in said
    assert "66.7 % kept" in said
    assert "short 3 · 33.3 %" in said
    assert 'aria-label="kept 6, short 3"' in page
    assert "dropped: short" in said
    assert "ab0" in said
    assert "letters: 4" in said
    assert 'aria-label="loss from 3 to 1"' in page
    assert "<del>&lt;b&gt;</del>one<del>&lt;/b&gt;</del>" in page
    targets = re.findall(r'href="#([^"]+)"', page)
    assert targets
    assert all(f'id="{html.unescape(target)}"' in page for target in targets)


def test_a_reused_step_shows_what_its_build_recorded(home: Home) -> None:
    first = parsed(page_of(home))
    again = page_of(home)
    assert "5 reused" in words(again)
    assert f"built {datetime.now(UTC):%Y-%m-%d}" in words(again)
    assert first.names - {"del"} <= parsed(again).names
    for part in ('aria-label="kept 6, short 3"', 'aria-label="loss from 3 to 1"', "ab0"):
        assert part in again


def test_the_text_of_strangers_stays_text(home: Home) -> None:
    (home.folder.parent / "texts" / "3.txt").write_text(f"{HOSTILE}\n{120 * 'x'}\n")
    page = page_of(home, RECIPE.replace("letters: 4", "letters: 110"))
    found = parsed(page)
    assert "</pre><script>alert(1)</script>\u2400\u202e<img src=//evil" in found.text
    assert found.names <= HARMLESS
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "srcdoc", "action", "formaction")}
    assert all(value.startswith(("#", "http")) for name, value in found.attributes if name == "href")
    policy = next(value for name, value in found.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy


def test_a_failed_run_has_a_page_of_what_was_done(home: Home) -> None:
    planner = planner_of(home)
    outcomes = make_all(planner)
    outcomes["base"] = StepOutcome("base", "train", "failed", "the loss is <nan>")
    outcomes["report"] = StepOutcome("report", "judge", "skipped", "needs base, which failed")
    page = document(shown(planner, outcomes, "failed"))
    said = words(page)
    assert "the loss is <nan>" in said
    assert "needs base, which failed" in said
    assert "6 of 9 documents" in said
    assert 'id="step-report"' not in page


def test_a_report_is_a_table_a_split_the_best_model_first(home: Home) -> None:
    metrics = {
        f"{model}.validation.{figure}": value
        for model, loss in (("base", 3.5), ("tuned", 3.25))
        for figure, value in (("tokens", 1234.0), ("loss", loss))
    }
    outcome = StepOutcome("report", "evaluate", "built", "first build", kind="report", metrics=metrics)
    page = document(ShownRun("toy", "r", "done", BEGAN, 1.0, [ShownStep(outcome, (), "")]))
    assert "validation model tokens loss tuned 1,234 3.25 base 1,234 3.5" in " ".join(
        re.sub(r"<[^>]+>", " ", page.partition("<h3>")[2]).split()
    )


def test_pages_lie_in_the_home_the_latest_is_easy_to_find_and_old_ones_go(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = planner_of(home)
    outcomes = make_all(planner)
    before = {path for path in home.folder.parent.rglob("*") if not path.is_relative_to(home.reports)}
    monkeypatch.setattr(file, "KEPT", 3)
    written = [write_page(shown(planner, outcomes, began=BEGAN + timedelta(hours=n)), home.reports) for n in range(5)]
    assert {path for path in home.folder.parent.rglob("*") if not path.is_relative_to(home.reports)} == before
    assert [path.exists() for path in written] == [False, False, True, True, True]
    assert latest(home.reports, "toy").resolve() == written[-1]
    assert set(home.reports.rglob("*")) == {Path(home.reports / "toy"), latest(home.reports, "toy"), *written[2:]}


@pytest.mark.parametrize(("losses", "step"), [([4.0, 3.0, 3.9, 2.9], 12), ([4.0, 3.0, 3.2, 2.9], None)])
def test_where_the_loss_rises_it_names_the_command_that_shows_the_documents(
    losses: list[float], step: int | None
) -> None:
    curves = {"loss": [(10.0 + number, loss) for number, loss in enumerate(losses)]}
    outcome = StepOutcome("base", "pretrain", "built", "first build", artifact="ab" * 32, curves=curves)
    text = parsed(document(ShownRun("toy", "a-run", "done", BEGAN, 1.0, [ShownStep(outcome, (), "")]))).text
    command = f"athanor show abababababab --step {step}"
    assert (command in text) == (step is not None)
    assert ("--step" in text) == (step is not None)
