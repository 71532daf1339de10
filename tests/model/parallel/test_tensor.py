"""Two processes that share a network, twice, against plain PyTorch in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.launched import found_by

ROOT = Path(__file__).resolve().parents[3]
CASES = [
    *("llama 0", "llama 1", "llama 2", "llama 3", "gpt 1"),  # under ZeRO 0 to 3
    "positions too",  # two processes for the positions of what two share the matrices of
    *("sequence 1", "sequence 2"),  # two for the positions, twice, without any cut of matrices
    *("lion 1", "lamb 1", "muon 0", "muon 3"),
    "lora 3",
]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return found_by("tests.model.parallel.ranks_tensor", 4, tmp_path_factory.mktemp("tensor"))


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_curve_are_those_of_one_process(found: dict[str, dict[str, float]], case: str) -> None:
    """Within what float32 leaves open: sums over heads, inner features and the vocabulary are taken in two parts.

    One rounding is 6e-8 of a value; measured over a gradient's norm, a hundred of them come to about 1e-6.
    """
    errors = found[case]
    assert errors["gradient_error"] < 1e-5
    assert errors["curve_error"] < 1e-5  # nats, and of norms
    assert errors["moved"] > 1e-3
    assert errors["weight_error"] < 5e-5  # AdamW's steps are as large for gradients that are hardly more than rounding
    assert errors["average_error"] < 5e-5
    assert errors["left_out"] == 1


@pytest.mark.parametrize("case", CASES)
def test_a_state_continues_bit_for_bit(found: dict[str, dict[str, float]], case: str) -> None:
    assert found[case]["restored"] == 1
    assert found[case]["same_bits"] == 1


@pytest.mark.parametrize(("way", "bound"), [("offload", 1e-5), ("recompute", 1e-5), ("bf16", 5e-2), ("fp16", 1e-2)])
def test_other_settings_go_with_it(found: dict[str, dict[str, float]], way: str, bound: float) -> None:
    """Half precision has the curve of float32 about as well as in one process: a fifth of these bounds."""
    assert found[way]["curve_error"] < bound


def test_what_all_processes_have_stays_the_same_bits(found: dict[str, dict[str, float]]) -> None:
    assert found["llama 0"]["differing"] == 0


def test_all_processes_are_told_the_same_figures(found: dict[str, dict[str, float]]) -> None:
    """Also where those that share a network find losses that differ in the last bits: they decide by them alike."""
    assert found["figures differ"] == {"evaluation": 0, "step": 0}


@pytest.mark.parametrize("case", ["one to tensor", "tensor to one", "tensor 1 to tensor 3"])
def test_a_checkpoint_opens_however_the_network_is_cut(found: dict[str, dict[str, float]], case: str) -> None:
    """Nothing is worked out anew: weights and moments are the bits that were kept."""
    assert found[case]["same"] == 1
    assert found[case]["curve_error"] < 1e-5
