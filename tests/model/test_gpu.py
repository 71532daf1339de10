"""What a GPU computes is what the CPU computes; and its benchmark, tried out on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.corpora import DataMissing
from benchmarks.training import gpu
from model.config import ModelConfig
from tests.model.launched import found_by
from tests.model.ranks_gpu import EIGHT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return found_by("tests.model.ranks_gpu", min(2, torch.cuda.device_count()), tmp_path_factory.mktemp("gpu"), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize(
    ("way", "most"), [("fp32", 1e-2), *((way, 5e-2) for way in ("bf16", "fp16", "fp8", "offload", "nvme"))]
)
def test_every_stage_and_precision_follows_the_cpus_curve(
    found: dict[str, Any], way: str, stage: int, most: float
) -> None:
    if way == "fp8" and not EIGHT:
        pytest.skip("this GPU has no 8-bit products")
    assert found[f"{way} {stage}"]["curve_error"] < most
    assert found[f"{way} {stage}"]["improvement"] > 4 * most or way == "fp32"


@pytest.mark.gpu
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_that_overflow_cost_steps_and_halve_the_loss_scale(found: dict[str, Any], stage: int) -> None:
    told = found[f"overflow {stage}"]
    assert told["skipped"] > 1
    assert (told["scale"], told["moved"], told["left_out"]) == (1.0, 1.0, 0.0)


@pytest.mark.gpu
def test_a_gpus_state_is_kept_and_taken_back(found: dict[str, Any]) -> None:
    assert found["resumed"] == 1.0


@pytest.mark.gpu
def test_the_kernels_attention_is_the_definitions(found: dict[str, Any]) -> None:
    assert found["attention"]["float32"] < 1e-2  # tensor cores may round the factors
    assert found["attention"]["bfloat16"] < 5e-2


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_wherever_training_runs() -> None:
    shape = ModelConfig(layers=1, width=16, heads=2, context=32)
    cases = {"tiny, LoRA": gpu.Case(shape, 2, lora=True)}
    (table,) = gpu.measure(cases, device="cpu", precision="fp32", steps=2)
    assert [row[0] for row in table.rows] == list(cases)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(float(row[3].replace(",", "")) > 0 for row in table.rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_says_so() -> None:
    with pytest.raises(DataMissing, match="no GPU"):
        gpu.measure()
