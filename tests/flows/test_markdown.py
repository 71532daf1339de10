"""What Prefect and MLflow show in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.markdown import fenced, run_markdown, sample_lines, step_markdown
from flows.outcome import StepOutcome

METRICS = {"documents_in": 10.0, "documents_out": 6.0, "dropped.short": 3.0, "dropped.odd": 1.0}
METRICS |= {"bytes_in": 2000.0, "bytes_out": 1500.0, "replaced.email": 2.0, "rows_per_band": 5.0}
KEPT = StepOutcome("kept", "keep", "built", "first build", "k", "a", 2.0, METRICS, "6 documents")


def test_a_step_is_told_with_its_reasons_and_each_figure_once() -> None:
    sample = {"title": "dropped: short", "before": "ab", "after": None, "place": "a|b.html"}
    told = step_markdown(
        StepOutcome(**{**KEPT.__dict__, "samples": [sample]}), "http://127.0.0.1:5000/#/experiments/1/runs/2"
    )
    assert "6 of 10 documents kept (60.0 %)\n2.0 kB → 1.5 kB (75.0 % of the bytes)\nreplaced: 2 email\n" in told
    short, odd = (line for line in told.splitlines() if line.startswith(("short", "odd")))
    assert short.count("█") == 3 * odd.count("█") + 1 == 40
    assert short.endswith("3   30.0 %")
    assert "(http://127.0.0.1:5000/#/experiments/1/runs/2)" in told
    assert "a&#124;b.html" in told
    assert "| rows_per_band | 5 |" in told
    assert "| dropped.short" not in told


def test_a_run_is_told_with_a_row_a_step_and_where_its_page_is() -> None:
    failed = StepOutcome("odd", "breaks", "failed", "nothing left; | do\notherwise")
    told = run_markdown([KEPT, failed], Path("/home/x.html"), "http://127.0.0.1:5000/page")
    assert "| kept | built | 2.0 s | 6 documents |" in told
    assert "| odd | failed | 0.0 s | nothing left; &#124; do otherwise |" in told
    assert f"kept  {24 * '█'}{16 * '░'}  6 of 10" in told
    assert "(http://127.0.0.1:5000/page)" in told
    assert "`/home/x.html`" in told
    assert "MLflow" not in run_markdown([failed], None, None)


@given(st.text(alphabet="~`ab \n", max_size=60))
def test_no_text_ends_its_block(text: str) -> None:
    opening, inside, closing = fenced(text)
    assert opening == f"{closing}text"
    assert inside == text
    assert set(closing) == {"~"}
    assert closing not in text


@pytest.mark.parametrize("most", [None, 3])
def test_two_texts_stand_below_what_they_are(most: int | None) -> None:
    sample = {"title": "t", "before": "whole page", "after": "kept text", "before_is": "page", "after_is": "kept"}
    assert sample_lines(sample, most) == [
        *("page:", "", "~~~text", "whole page"[:most], "~~~", ""),
        *("kept:", "", "~~~text", "kept text"[:most], "~~~"),
    ]
