"""What a GPU computes is what the CPU computes; and its benchmark, tried out on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.corpora import DataMissing
from benchmarks.training import gpu
from model.config import ModelConfig
from model.planning.estimate import gpu_of
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
@pytest.mark.parametrize("way", ["fp32", "bf16", "fp16"])
def test_layers_compute_in_the_precision_asked_for(found: dict[str, Any], way: str, stage: int) -> None:
    kind = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}[way]
    assert found[f"numbers {stage}"][way] == [kind]


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


@pytest.mark.slow
def test_a_case_that_cannot_run_here_leaves_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    shape = ModelConfig(layers=1, width=16, heads=2, context=32)
    cases = {"tiny, fp8": gpu.Case(shape, 2, precision="fp8"), "tiny": gpu.Case(shape, 2)}
    (table,) = gpu.measure(cases, device="cpu", precision="fp32", steps=2)
    assert [row[3] == "cannot run here" for row in table.rows] == [True, False]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "precision fp8 needs a GPU with 8-bit products" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L4", 121e12),
        ("NVIDIA H100 PCIe", None), ("NVIDIA H100 NVL", None), ("NVIDIA L40S", None), ("NVIDIA GH200 480GB", None),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_its_own_name_alone(name: str, peak: float | None) -> None:
    found = gpu_of(name)
    assert (found.half if found is not None else None) == peak


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_says_so() -> None:
    with pytest.raises(DataMissing, match="no GPU"):
        gpu.measure()
