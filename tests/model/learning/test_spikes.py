from __future__ import annotations

import copy
import json
import math

import numpy as np

from model.learning.spikes import FEWEST, MOST_IN_A_ROW, REMEMBERED, Largest, Spikes


def test_limits_are_multiples_of_the_median_of_the_last_steps() -> None:
    random = np.random.default_rng(0)
    losses, norms = random.uniform(1, 2, 300), random.uniform(0.1, 5, 300)
    spikes = Spikes(2.5, memory := {})
    for step, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
        seen = slice(max(0, step - REMEMBERED), step)
        wanted = Largest(2.5 * np.median(losses[seen]), 2.5 * np.median(norms[seen])) if step >= FEWEST else Largest()
        assert spikes.largest() == wanted
        before = copy.deepcopy(memory)
        kept = memory.get("spikes")
        spikes.saw(loss, norm, left_out=bool(norm > wanted.grad_norm))
        assert kept is None or kept == before["spikes"]  # a checkpoint may still be writing it
    resumed = Spikes(2.5, json.loads(json.dumps(memory)))
    assert (resumed.largest(), resumed.left_out) == (spikes.largest(), spikes.left_out)


def test_a_lasting_change_becomes_the_usual() -> None:
    spikes = Spikes(3.0, {})
    for _ in range(REMEMBERED):
        spikes.saw(1.0, 1.0, left_out=False)
    while spikes.largest().grad_norm < 10:
        spikes.saw(1.0, 10.0, left_out=True)
    assert spikes.left_out == REMEMBERED // 2


def test_nothing_is_left_out_where_it_is_not_asked_for() -> None:
    spikes = Spikes(None, memory := {})
    for _ in range(50):
        spikes.saw(1.0, 1.0, left_out=False)
    assert (spikes.largest(), spikes.left_out, memory) == (Largest(), None, {})
    spikes = Spikes(2.0, {})
    spikes.saw(1.0, math.inf, left_out=False)  # float16 gradients that overflowed
    assert spikes.largest() == Largest()


def test_what_is_not_finite_is_left_out_but_not_for_ever_and_is_never_usual() -> None:
    spikes = Spikes(2.0, {})
    for _ in range(FEWEST):
        spikes.saw(1.0, 1.0, left_out=False)
    usual = spikes.largest()
    for number, (loss, norm) in enumerate([(math.nan, math.inf), (1.0, math.inf), (math.inf, 1.0)]):
        assert spikes.forgives
        spikes.saw(loss, norm, left_out=True)
        assert spikes.left_out == number + 1
    assert MOST_IN_A_ROW == 3
    assert not spikes.forgives
    assert spikes.largest() == usual
    spikes.saw(1.0, 1.0, left_out=False)
    assert spikes.forgives
    assert not Spikes(None, {}).forgives
