from __future__ import annotations

import math

import pytest

from model.schedule import learning_rate


def written_out(tokens: float) -> float:
    """Peak 2, warm-up 100 tokens, 500 in all, a quarter left at the end."""
    if tokens < 100:
        return 2 * tokens / 100
    cosine = 0.5 * (1 + math.cos(math.pi * (tokens - 100) / 400))
    return 0.5 + 1.5 * cosine


@pytest.mark.parametrize("tokens", [0, 1, 50, 99.5, 100, 101, 300, 499, 500])
def test_against_the_formula(tokens: float) -> None:
    found = learning_rate(tokens, peak=2, warmup=100, total=500, final_fraction=0.25)
    assert found == pytest.approx(written_out(tokens))


def test_ends_and_edges() -> None:
    assert learning_rate(300, peak=2, warmup=100, total=500, final_fraction=0) == pytest.approx(1.0)
    assert learning_rate(600, peak=2, warmup=100, total=500, final_fraction=0.25) == pytest.approx(0.5)
    assert learning_rate(0, peak=2, warmup=0, total=500, final_fraction=0) == 2
    assert learning_rate(7, peak=2, warmup=10, total=10, final_fraction=0) == pytest.approx(1.4)
