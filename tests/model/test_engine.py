"""ZeRO 0 to 3 on two real processes against plain PyTorch on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.learning.on_disk import Disk
from storage.errors import UserError
from tests.model.launched import found_by

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    return found_by("tests.model.ranks_zero", 2, tmp_path_factory.mktemp("zero"))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_and_losses_are_those_of_one_process(found: dict[str, dict[str, float]], stage: int) -> None:
    outcome = found[f"zero {stage}"]
    assert outcome["gradient_error"] < 1e-5
    assert outcome["curve_error"] < 1e-3
    assert outcome["improvement"] > 0.5  # it learnt, so the curves had something to differ in


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_state_continues_bit_for_bit(found: dict[str, dict[str, float]], stage: int) -> None:
    assert found[f"{stage} continued as {stage}"]["same_bits"] == 1.0


@pytest.mark.parametrize("pair", ["0 continued as 3", "3 continued as 1", "1 continued as 1", "2 continued as 0"])
def test_what_is_restored_is_what_was_kept(found: dict[str, dict[str, float]], pair: str) -> None:
    assert found[pair]["restored"] == 1.0


@pytest.mark.parametrize("pair", ["0 continued as 3", "3 continued as 1"])
def test_a_state_continues_under_another_stage(found: dict[str, dict[str, float]], pair: str) -> None:
    assert found[pair]["weight_error"] < 1e-5


@pytest.mark.parametrize(
    "spread",
    ["offload 1", "offload 3", "recompute 0", "recompute 3", "sequence 0", "sequence 3", "tensor 0", "tensor 3"],
)
def test_however_it_is_spread_it_learns_the_same(found: dict[str, dict[str, float]], spread: str) -> None:
    assert found[spread]["gradient_error"] < 1e-5
    assert found[spread]["curve_error"] < 1e-3


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_experts_learn_as_on_one_process(found: dict[str, dict[str, float]], stage: int) -> None:
    told = found[f"experts {stage}"]
    assert told["gradient_error"] < 1e-5
    assert told["loss_error"] < 1e-5
    assert told["uneven"] > 1.01


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_is_updated_on_a_disk_is_what_would_be_in_memory(found: dict[str, dict[str, float]], stage: int) -> None:
    told = found[f"nvme {stage}"]
    assert told["in_files"] == told["as_in_memory"] == told["restored"] == 1.0
    assert told["names_left"] == 0
    assert stage < 3 or told["pieces"] > 2


def test_a_disk_that_is_too_small_is_noticed_before_training(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(UserError, match=r"offload_folder: .*: 16 bytes: "):
        Disk(occupied / "folder").zeros(torch.zeros(4))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_lower_precisions_follow_the_float32_curve(found: dict[str, dict[str, float]], precision: str) -> None:
    assert found[precision]["curve_error"] < 2e-2


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", "torch.float32"), ("bf16", "torch.bfloat16"), ("fp16", "torch.float16")]
)
def test_layers_compute_in_the_precision_asked_for(found: dict[str, Any], precision: str, kind: str) -> None:
    """Under DeepSpeed's own look for autocast, which without further ado sees that of GPUs alone."""
    assert all(kinds == [kind] for kinds in found["numbers"][precision])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_that_overflow_cost_steps_and_halve_the_loss_scale(
    found: dict[str, dict[str, float]], stage: int
) -> None:
    told = found[f"overflow {stage}"]
    assert told["skipped"] > 1
    assert (told["scale"], told["moved"], told["left_out"]) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_loss_scale_grows_again_and_is_resumed(found: dict[str, dict[str, Any]], stage: int) -> None:
    """The second step overflows on one process alone; DeepSpeed doubles after 3 steps that follow a good one."""
    told = found[f"loss scale {stage}"]
    assert told["scales"] == [2.0**16, -(2.0**15), *[2.0**15] * 3, *[2.0**16] * 3, 2.0**17]
    assert told["resumed"] == told["scales"][3:]
    assert told["same_bits"] == 1.0


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["adamw", "muon", "lion", "lamb"])
def test_cut_weights_get_the_updates_of_whole_ones(found: dict[str, dict[str, float]], name: str, stage: int) -> None:
    """Weights and their averages are those of one process, also when the run was continued half-way."""
    errors = found[f"{name} {stage}"]
    assert errors["moved"] > 2e-3
    assert errors["weights"] < 1e-6
    assert errors["averages"] < 1e-6
    assert errors["continued"] == 0
    assert errors["left_out"] == 1
    assert errors["given_back"] == 1  # the averages were in the network for a while
