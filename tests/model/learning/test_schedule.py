from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import optimization

from model.learning.optimizer_config import OptimizerConfig
from model.learning.schedule import learning_rate

STEPS, WARMUP, DECAY = 500, 100, 150


def wsd(shape: str) -> Callable[..., Any]:
    return partial(optimization.get_wsd_schedule, num_decay_steps=DECAY, decay_type=shape, min_lr_ratio=0.25)


REFERENCES: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    "cosine": (
        {"schedule": "cosine"},
        partial(optimization.get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate=0.25),
    ),
    "linear": (
        {"schedule": "linear"},
        partial(optimization.get_polynomial_decay_schedule_with_warmup, lr_end=0.5, power=1.0),
    ),
    "constant": (
        {"schedule": "constant"},
        lambda optimizer, num_training_steps, **rest: optimization.get_constant_schedule_with_warmup(optimizer, **rest),
    ),
    "stable_decay": ({"schedule": "stable_decay", "decay_share": DECAY / STEPS}, wsd("linear")),
    "stable_decay, sqrt": (
        {"schedule": "stable_decay", "decay_share": DECAY / STEPS, "decay_shape": "sqrt"},
        wsd("1-sqrt"),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_against_transformers(name: str) -> None:
    """Peak 2, a quarter of it left at the end; a step of theirs is a token here."""
    settings, make = REFERENCES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    reference = make(optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
    config = OptimizerConfig(learning_rate=2.0, warmup_tokens=WARMUP, final_fraction=0.25, **settings)
    for step in range(STEPS + 1):
        # Theirs does not begin at 0 where it does not end there.
        wanted = 2 * step / WARMUP if step < WARMUP else reference.get_last_lr()[0]
        assert learning_rate(step, config, STEPS) == pytest.approx(wanted, abs=1e-9), step
        optimizer.step()
        reference.step()


@given(st.sampled_from(sorted(REFERENCES)), st.integers(0, 1000), st.integers(1, 1000), st.floats(0, 1200))
def test_it_lies_between_its_bounds(name: str, warmup: int, total: int, tokens: float) -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup_tokens=warmup, final_fraction=0.25, **REFERENCES[name][0])
    rate = learning_rate(tokens, config, total)
    assert rate <= 2.0 + 1e-12
    assert rate >= (0.5 - 1e-12 if tokens >= warmup else 0)


def test_it_stays_at_its_peak_where_a_longer_run_can_continue() -> None:
    settings = {"learning_rate": 2.0, "warmup_tokens": 10}
    stable = OptimizerConfig(schedule="stable_decay", **settings)
    assert stable.stable_until(1000) == pytest.approx(800)
    assert learning_rate(800, stable, 1000) == 2.0 > learning_rate(801, stable, 1000)
    assert OptimizerConfig(schedule="constant", **settings).stable_until(1000) == 1000
    assert OptimizerConfig(schedule="linear", **settings).stable_until(1000) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosine", "decay_share": 0.2}, "decay_share is for schedule stable_decay, not cosine: leave it"),
        ({"schedule": "constant", "decay_shape": "sqrt"}, "decay_shape is for schedule stable_decay, not constant"),
        ({"name": "lion", "momentum": 0.9}, "momentum is for name muon, not lion: leave it out, or change name"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        OptimizerConfig(**settings)


def test_settings_as_they_are_by_default_fit_every_schedule() -> None:
    config = OptimizerConfig(schedule="cosine", name="adamw")
    assert OptimizerConfig.model_validate(config.model_dump()) == config
