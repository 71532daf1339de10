"""The points of training that a build's record keeps."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flows.curves import curves_of, thinned


def test_a_curve_holds_the_last_word_on_each_step_and_only_numbers(tmp_path: Path) -> None:
    rows = [{"step": 0, "loss": 3.0, "name": "x"}, {"step": 1, "loss": 2.0, "validation_loss": 2.5}]
    rows += [{"step": 1, "loss": 1.5}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 1.0}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    assert curves_of(path) == {"loss": [(0, 3.0), (1, 1.5), (3, 1.0)]}
    assert curves_of(tmp_path / "none.jsonl") == {}


@given(st.integers(0, 5_000))
def test_a_long_curve_keeps_its_ends_and_its_order(length: int) -> None:
    points = [(float(step), 1.0 / (step + 1)) for step in range(length)]
    kept = thinned(points)
    assert len(kept) == min(length, 200)
    assert kept == sorted(set(kept))
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
    gaps = {later[0] - earlier[0] for earlier, later in pairwise(kept)}
    assert not gaps or max(gaps) - min(gaps) <= 1
