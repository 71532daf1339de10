"""Forecasts against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.config import ModelConfig
from model.learning.optimizer_config import OptimizerConfig
from model.network.cross_entropy import positions_of_a_chunk
from model.network.lora import inject
from model.network.transformer import Transformer
from model.planning.estimate import GPUS, estimate, said
from model.planning.memory import Adapters
from tasks.task import Resources

SHAPE = ModelConfig(layers=2, width=64, heads=4, context=32, feed_forward=128)
VOCABULARY = 1_000
WEIGHTS = 4 * SHAPE.parameters(VOCABULARY)


def activations(shape: ModelConfig, **given: object) -> float:
    """Of one of two processes, without a vocabulary."""
    return estimate(shape, 0, 1, "fp32", OptimizerConfig(), Resources(processes=2, **given)).memory["activations"]


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "moments"),
    [
        (0, WEIGHTS, WEIGHTS, 2 * WEIGHTS),
        (1, WEIGHTS * 1.25, 2 * WEIGHTS, WEIGHTS / 2),
        (2, WEIGHTS * 1.25, WEIGHTS * 1.25, WEIGHTS / 2),
        (3, WEIGHTS * 2.5, WEIGHTS * 1.25, WEIGHTS / 2),  # two shares, all of them gathered, and the buffer for it
    ],
)
def test_memory_by_stage_on_four_processes(stage: int, weights: float, gradients: float, moments: float) -> None:
    resources = Resources(processes=4, zero_stage=stage)
    memory = estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), resources).memory
    assert memory["weights"] == pytest.approx(weights)
    assert memory["gradients"] == pytest.approx(gradients)
    assert memory["optimizer"] == pytest.approx(moments)


def test_of_experts_all_are_held_and_the_chosen_work() -> None:
    """Against the same network with one feed-forward: 4 experts held, 2 worked with, and a score for each."""
    shape = SHAPE.model_copy(update={"experts": 4})
    expert, scores = SHAPE.layers * 3 * 64 * 128, SHAPE.layers * 4 * 64
    dense, found = (estimate(s, VOCABULARY, 1_000, "fp32", OptimizerConfig(), Resources()) for s in (SHAPE, shape))
    assert found.parameters == dense.parameters + 3 * expert + scores
    assert found.active_parameters == dense.parameters + expert + scores
    assert found.flops - dense.flops == 6 * 1_000 * (expert + scores)
    assert found.memory["gradients"] - dense.memory["gradients"] == 2 * 4 * (3 * expert + scores)
    described = found.as_json("fp32")
    assert said(described).startswith("294 k weights (196 k for each token); ")
    assert "for each token" not in said(dense.as_json("fp32"))


def test_eight_bits_are_counted_for_the_products_they_are_used_in() -> None:
    shape = ModelConfig(layers=12, width=1024, heads=16, context=1024)
    found = estimate(shape, VOCABULARY, 10**9, "fp8", OptimizerConfig(), Resources())
    half, eight = found.seconds_on("bf16"), found.seconds_on("fp8")
    assert eight.keys() == half.keys() - {"A100"}
    for name, seconds in eight.items():
        assert seconds / half[name] == pytest.approx(1 - found.inside / 2, rel=0.01)


def test_offload_moves_what_is_optimised_to_the_host() -> None:
    on_gpu = estimate(SHAPE, VOCABULARY, 1_000, "bf16", OptimizerConfig(), Resources(processes=2))
    offloaded = estimate(SHAPE, VOCABULARY, 1_000, "bf16", OptimizerConfig(), Resources(processes=2, offload="cpu"))
    assert offloaded.memory["weights"] == WEIGHTS
    assert offloaded.memory["optimizer"] == 0
    assert offloaded.memory["host"] == 2 * WEIGHTS  # weights and gradients of its half, and two moments of it
    on_disk = estimate(SHAPE, VOCABULARY, 1_000, "bf16", OptimizerConfig(), Resources(processes=2, offload="nvme"))
    assert on_disk.memory == offloaded.memory | {"host": 0.5 * WEIGHTS, "disk": 3 * WEIGHTS}
    assert on_disk.seconds_on("bf16") == offloaded.seconds_on("bf16")
    assert sum(offloaded.memory.values()) > sum(on_gpu.memory.values())


def test_activations_shrink_with_recomputing_and_sharing() -> None:
    def of(**given: object) -> float:
        return activations(SHAPE.model_copy(update={"layers": 24}), **given)

    assert of(recompute=True) < of() / 4
    assert of(sequence_processes=2) == pytest.approx(of() / 2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_logits_are_held_in_chunks(device: str) -> None:
    """As many positions at a time as the network takes on such a device."""

    def of(vocabulary: int, rows: int) -> float:
        resources = Resources(micro_batch_sequences=rows, device=device)
        found = estimate(SHAPE, vocabulary, 1, "fp32", OptimizerConfig(), resources).memory["activations"]
        return found - 4 * vocabulary * SHAPE.width  # the table's gradient

    assert of(1_000, 2) - of(0, 2) == 2 * 4 * 2 * SHAPE.context * 1_000  # and their gradient
    taken = positions_of_a_chunk(100_000, torch.device(device)) * 100_000
    assert of(100_000, 1_000) - of(0, 1_000) == of(100_000, 2_000) - of(0, 2_000)
    assert of(100_000, 1_000) - of(0, 1_000) == pytest.approx(2 * 4 * taken, rel=0.03)  # whole positions


def test_tensor_processes_have_parts_of_matrices_and_of_what_they_give() -> None:
    """Two share every network: 64,000 values of a table, 2 x 40,960 of matrices; all have the 320 gains."""
    spread = Resources(processes=4, zero_stage=1, tensor_processes=2)
    memory = estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), spread).memory
    held = 4 * ((64_000 + 2 * 40_960) / 2 + 320)
    assert memory["weights"] == pytest.approx(1.5 * held)
    assert memory["gradients"] == pytest.approx(2 * held)
    assert memory["optimizer"] == pytest.approx(held)

    def of(parts: int) -> float:
        return activations(SHAPE, tensor_processes=parts)

    in_parts = 2 * 8 * 32 * 4 * (5 * 64 + 4 * 128)  # layers x positions x bytes x features of heads, and inner ones
    assert of(1) - of(2) == pytest.approx(in_parts / 2)


def test_time_is_operations_by_the_peak_of_all_processes() -> None:
    large = ModelConfig(layers=12, width=1024, heads=16, context=1024)
    found = estimate(large, VOCABULARY, 10**9, "bf16", OptimizerConfig(), Resources(processes=8))
    assert found.flops == 10**9 * large.flops_per_token(VOCABULARY)
    assert found.seconds_on("bf16")["A100"] == pytest.approx(found.flops / (312e12 * 8 * 0.4))
    assert found.seconds_on("fp32")["A100"] == pytest.approx(found.flops / (19.5e12 * 8 * 0.4))


def test_a_tiny_network_takes_as_long_as_its_kernels_take_to_start() -> None:
    resources = Resources(processes=4, sequence_processes=2, micro_batch_sequences=3)
    # 16 sequences a step, 8 for each of two groups, in three passes; 63 steps.
    found = estimate(SHAPE, VOCABULARY, 63 * 16 * 32 - 5, "bf16", OptimizerConfig(), resources, 16 * 32)
    assert found.seconds_on("bf16")["H100"] == pytest.approx(63 * 3 * (60 + 2 * 75) * 1e-5)


def test_the_number_of_kernels_is_what_the_network_starts() -> None:
    def started(layers: int, experts: int | None = None, adapted: tuple[str, ...] = ()) -> int:
        network = Transformer(ModelConfig(layers=layers, width=32, heads=4, context=64, experts=experts), 100)
        if adapted:
            inject(network, 8, 16.0, adapted, 0)
        tokens_BT, places_BT = torch.zeros(2, 64, dtype=torch.long), torch.arange(64).expand(2, -1)
        balance = experts is not None
        with Count() as count:
            network(
                tokens_BT, places_BT, tokens_BT, tokens_BT, rows_B=torch.arange(2), balance=balance
            ).sum().backward()
        return count.kernels

    for experts in (2, 8):
        assert started(2, experts) - started(1, experts) == pytest.approx(75 + 50 + 15 * (experts - 1), rel=0.25)
    two, four = started(2), started(4)
    assert (four - two) / 2 == pytest.approx(75, rel=0.25)
    assert 2 * two - four == pytest.approx(60, rel=0.5)
    names = ("q_proj", "o_proj", "up_proj")
    adapters = (started(4, adapted=names) - started(2, adapted=names)) / 2 - (four - two) / 2
    assert adapters == pytest.approx(8 * len(names), rel=0.25)


class Count(TorchDispatchMode):
    """Counts operations that compute something."""

    kernels = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.kernels += not function.is_view and not function.__name__.startswith(("empty", "detach", "_unsafe_view"))
        return function(*args, **(kwargs or {}))


def test_gpus_that_are_too_small_are_left_out() -> None:
    large = ModelConfig(layers=40, width=5120, heads=40, context=2048)
    found = estimate(large, 32_000, 10**9, "bf16", OptimizerConfig(), Resources(zero_stage=0))
    assert found.seconds_on("bf16") == {}
    shared = Resources(processes=64, zero_stage=3, micro_batch_sequences=1, recompute=True)
    assert set(estimate(large, 32_000, 10**9, "bf16", OptimizerConfig(), shared).seconds_on("bf16")) == set(GPUS)


def test_it_is_said_in_one_line() -> None:
    found = estimate(SHAPE, VOCABULARY, 10**6, "fp32", OptimizerConfig(name="lion"), Resources())
    line = said(found.as_json("fp32"))
    assert line.startswith("146 k weights; a process needs ")
    assert "(weights 1.17 MB, gradients 1.17 MB, optimizer 585 kB, activations " in line
    assert " here, " in line
    assert "\n" not in line


def test_a_process_of_a_pipeline_has_the_weights_of_its_stage() -> None:
    """The last of two stages: one of two layers, the norm, and the first's embedding, ZeRO 1 over two processes."""
    shape = SHAPE.model_copy(update={"tied_embeddings": True})
    alone = estimate(shape, VOCABULARY, 1_000, "fp32", OptimizerConfig(), Resources())
    found = estimate(
        shape, VOCABULARY, 1_000, "fp32", OptimizerConfig(), Resources(processes=4, pipeline_processes=2), 32 * 48
    )
    table, norm = 4 * VOCABULARY * SHAPE.width, 4 * SHAPE.width
    last = (4 * shape.parameters(VOCABULARY) - table - norm) / 2 + norm
    assert found.memory["weights"] == pytest.approx(last * 1.5 + table)
    assert found.memory["gradients"] == pytest.approx(last * 2 + table)
    assert found.memory["optimizer"] == pytest.approx(last)
    assert found.parameters == alone.parameters
    # 48 sequences are 3 micro-batches of each of the two pipelines: 4 steps of which one is waited through.
    assert found.seconds(1e12, 0.5) == pytest.approx(alone.seconds(1e12, 0.5) * 4 / 3)


def test_the_first_stage_keeps_activations_of_several_micro_batches() -> None:
    shape = SHAPE.model_copy(update={"layers": 24, "tied_embeddings": False})
    sizes = [
        estimate(shape, 2, 1, "fp32", OptimizerConfig(), Resources(processes=4, pipeline_processes=stages)).memory
        for stages in (1, 2, 4)
    ]
    # Half the layers for two micro-batches, a quarter for four: about as much as all for one.
    assert all(0.9 < memory["activations"] / sizes[0]["activations"] < 1.2 for memory in sizes[1:])
    assert sizes[2]["weights"] < sizes[0]["weights"]


ADAPTERS = Adapters(rank=8, targets=("q_proj", "o_proj", "down_proj"))
ADAPTED = 2 * 8 * (64 + 64 + 64 + 64 + 128 + 64)
"""Of two layers: two matrices of rank 8 beside each of 64 x 64, 64 x 64 and 128 x 64."""


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "moments"),
    [
        (0, WEIGHTS + 4 * ADAPTED, 4 * ADAPTED, 8 * ADAPTED),
        (1, WEIGHTS + 5 * ADAPTED, 8 * ADAPTED, 2 * ADAPTED),
        (2, WEIGHTS + 5 * ADAPTED, 5 * ADAPTED, 2 * ADAPTED),
        # A quarter of everything, one of what is optimised, all of it gathered, and the buffer of what is trained.
        (3, 1.25 * (WEIGHTS + 4 * ADAPTED) + 5 * ADAPTED, 5 * ADAPTED, 2 * ADAPTED),
    ],
)
def test_of_adapters_alone_there_are_gradients_and_moments(
    stage: int, weights: float, gradients: float, moments: float
) -> None:
    resources = Resources(processes=4, zero_stage=stage)
    found = estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), resources, adapters=ADAPTERS)
    assert (found.parameters, found.trained_parameters) == (SHAPE.parameters(VOCABULARY), ADAPTED)
    assert found.memory["weights"] == pytest.approx(weights)
    assert found.memory["gradients"] == pytest.approx(gradients)
    assert found.memory["optimizer"] == pytest.approx(moments)


def test_frozen_matrices_have_two_products_of_three_and_adapters_all() -> None:
    full, found = (
        estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), Resources(), adapters=adapters)
        for adapters in (None, ADAPTERS)
    )
    matrices = 2 * (4 * 64 * 64 + 3 * 64 * 128) + VOCABULARY * 64
    assert full.flops - found.flops == pytest.approx(1_000 * (2 * matrices - 6 * ADAPTED))
    # No gradient of the output layer; 3 x 8 features of 8 sequences between the adapters' matrices in each layer.
    more = 2 * 8 * 32 * 3 * 8 * 4 - 4 * VOCABULARY * 64
    assert found.memory["activations"] - full.memory["activations"] == pytest.approx(more)
    # Four micro-batches of two layers with three adapters, of which each takes eight operations.
    assert found.kernels - full.kernels == 4 * 2 * 3 * 8


def test_a_stage_that_borrows_a_frozen_table_has_no_gradients_of_it() -> None:
    """The last of two stages, as above: the adapters of one layer, and as many in the buffer."""
    resources = Resources(processes=4, pipeline_processes=2)
    memory = estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), resources, adapters=ADAPTERS).memory
    assert memory["gradients"] == 2 * 4 * ADAPTED / 2
    block, norm, table = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64, 64, VOCABULARY * 64
    assert memory["weights"] == pytest.approx(4 * (block + norm + table + ADAPTED / 2 * 1.5))


def test_tensor_processes_have_one_matrix_of_an_adapter_whole() -> None:
    spread = Resources(processes=2, zero_stage=0, tensor_processes=2)
    found = estimate(SHAPE, VOCABULARY, 1_000, "fp32", OptimizerConfig(), spread, adapters=ADAPTERS)
    assert found.memory["gradients"] == pytest.approx(4 * 2 * 8 * (3 * 64 + (64 + 64 + 128) / 2))


def test_shorter_sequences_than_the_network_could_take() -> None:
    shape = SHAPE.model_copy(update={"positions": "learned"})
    found, whole = (
        estimate(shape, VOCABULARY, 1_000, "fp32", OptimizerConfig(), Resources(), 256, context=context)
        for context in (16, None)
    )
    assert found.parameters == whole.parameters
    assert found.memory["weights"] == whole.memory["weights"]
    assert found.memory["activations"] < whole.memory["activations"]
    assert found.flops == 1_000 * shape.flops_per_token(VOCABULARY, 16)
