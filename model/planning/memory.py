"""Memory of a training process by part, as it follows from what it keeps. Imports no torch.

What DeepSpeed's ZeRO keeps in this engine: S. Rajbhandari et al. 2020, "ZeRO: Memory Optimizations
Toward Training Trillion Parameter Models", section 3, with float32 weights throughout. The benchmark
of memory says how far this is from what is measured.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import Any

from model.config import ModelConfig, Precision
from model.learning.optimizer_config import OptimizerConfig
from model.parallel.stages import blocks_of_stages
from model.parallel.zero import REDUCE_BUCKET

PLUMBING = "what is foretold has no influence on what happens"

_FLOAT = 4
"""Bytes of a float32."""
_LIVE = 1_000_000_000
"""Most weights that ZeRO 3 keeps gathered (DeepSpeed's ``stage3_max_live_parameters``)."""
_LOGITS, _GPU_LOGITS = 2**22, 2**26
"""Held at a time on a CPU and on a GPU (see ``model.network.cross_entropy``): themselves, and their gradient."""


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters that are trained instead of a network's own weights (Hu et al. 2021, "LoRA", section 4.1)."""

    rank: int
    targets: tuple[str, ...]
    """Names of the linear layers that have them."""

    def weights_of_layer(self, shape: ModelConfig, parts: int = 1) -> float:
        """Two matrices for each target, of which the one beside the stream is whole on every tensor process."""
        queries, keys = shape.heads * shape.head_features, shape.key_value_heads * shape.head_features
        beside = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": queries}
        inner = ("gate_proj", "up_proj", "down_proj") if shape.activation == "swiglu" else ("up_proj", "down_proj")
        beside |= dict.fromkeys(inner if shape.experts is None else (), shape.inner_features)
        return sum(self.rank * (shape.width + beside[name] / parts) for name in self.targets if name in beside)


@dataclass(frozen=True)
class _Part:
    """What of a network a process works on: all, or a stage of a pipeline."""

    weights: float
    trained: float
    """Those of them that are trained,"""
    hidden: float
    """those of these in matrices inside the network,"""
    borrowed: float
    """and beside them those of a tied output layer that another stage trains."""
    blocks: int
    in_flight: int
    """Micro-batches whose activations are kept at a time, at most."""
    features: int
    """Copies of the features between stages for each of them: received, worked on, sent."""
    judges: bool
    """Whether it has the output layer."""


def memory_of(
    shape: ModelConfig, vocabulary: int, precision: Precision, optimizer: OptimizerConfig, run: Any,
    context: int | None = None, adapters: Adapters | None = None,
) -> dict[str, float]:  # fmt: skip
    """Bytes of the process that needs most, by part (see ``Estimate.memory``); arguments as those of ``estimate``."""
    parts = _parts(shape, vocabulary, run, adapters)
    if context is not None:
        shape = shape.model_copy(update={"context": context})
    needed = (_memory(part, shape, vocabulary, precision, optimizer, run, adapters) for part in parts)
    return max(needed, key=lambda memory: sum(memory.values()))


def _parts(shape: ModelConfig, vocabulary: int, run: Any, adapters: Adapters | None) -> list[_Part]:
    """The parts of a network: one for each stage."""
    parameters, stages = shape.parameters(vocabulary), run.pipeline_processes
    adapted = 0.0 if adapters is None else adapters.weights_of_layer(shape, run.tensor_processes)
    if stages == 1:
        held, hidden = _held(shape, vocabulary, run), shape.hidden_parameters / run.tensor_processes
        whole = _Part(held, held, hidden, 0, shape.layers, 1, 0, True)
        return [whole if adapters is None else _adapted(whole, adapted)]
    table, hidden = vocabulary * shape.width, shape.hidden_parameters / shape.layers
    around = shape.model_copy(update={"layers": 0}).parameters(vocabulary)
    block = (parameters - around) / shape.layers
    output = 0 if shape.tied_embeddings else table
    before = table + shape.context * shape.width * (shape.positions == "learned")
    made = []
    for stage, blocks in enumerate(blocks_of_stages(shape, vocabulary, stages)):
        first, last = stage == 0, stage == stages - 1
        weights = len(blocks) * block + first * before + last * (around - before)
        borrowed = table - output if last else 0
        copies = 2 * (not first) + (not last)
        part = _Part(weights, weights, len(blocks) * hidden, borrowed, len(blocks), stages - stage, copies, last)
        made.append(part if adapters is None else _adapted(part, adapted))
    return made


def _adapted(part: _Part, of_layer: float) -> _Part:
    """With adapters of so many weights in a layer, which alone are trained."""
    added = part.blocks * of_layer
    return replace(part, weights=part.weights + added, trained=added, hidden=added)


def _memory(
    part: _Part, shape: ModelConfig, vocabulary: int, precision: Precision, optimizer: OptimizerConfig, run: Any,
    adapters: Adapters | None,
) -> dict[str, float]:  # fmt: skip
    """Bytes of a process that works on a part."""
    weights, trained = _FLOAT * part.weights, _FLOAT * part.trained
    spread = run.pipeline_processes * run.tensor_processes / run.processes if run.zero_stage else 1.0
    share = trained * spread
    bucket = _FLOAT * min(REDUCE_BUCKET, part.trained)
    gathered = _FLOAT * min(_LIVE, part.weights) + bucket
    moments = share * _moments(optimizer, part.hidden / part.trained)
    borrowed = _FLOAT * part.borrowed
    borrowed_gradients = borrowed if adapters is None else 0.0
    memory = {
        # Stages 1 and 2 optimise a flat copy of this process's share of what is trained beside the weights; stage 3 has
        # such a share of both, what it has gathered for a micro-batch, and the flat buffer that this comes in, a
        # prefetch bucket at a time.
        "weights": {0: weights, 1: weights + share, 2: weights + share, 3: weights * spread + share + gathered}[
            run.zero_stage
        ]
        + borrowed,
        "gradients": {0: trained, 1: trained + bucket, 2: share + bucket, 3: share + bucket}[run.zero_stage]
        + borrowed_gradients,
        "optimizer": moments,
        "activations": _activations(part, shape, vocabulary, precision, run, adapters),
    }
    if run.offload != "none":
        memory |= {"weights": memory["weights"] - share, "optimizer": 0.0, "host": 2 * share + moments}
    if run.offload == "nvme":
        memory |= {"host": share, "disk": 2 * (share + moments)}  # with the copies that a checkpoint is written from
    return memory


def _held(shape: ModelConfig, vocabulary: int, run: Any) -> float:
    """Weights of a process before ZeRO: of the matrices and the vocabulary's tables those that it shares out."""
    cut = shape.hidden_parameters + vocabulary * shape.width * (1 if shape.tied_embeddings else 2)
    parts: int = run.tensor_processes
    return shape.parameters(vocabulary) - cut + cut / parts


def _moments(optimizer: OptimizerConfig, hidden: float) -> float:
    """Averages for each weight; ``hidden``: the share of weights in matrices inside the network."""
    kept = {"lion": 1.0, "muon": 2.0 - hidden}.get(optimizer.name, 2.0)
    return kept + (optimizer.average_tokens is not None)


def _activations(
    part: _Part, shape: ModelConfig, vocabulary: int, precision: Precision, run: Any, adapters: Adapters | None
) -> float:
    """Bytes that forward passes keep for backward passes.

    Counted from what PyTorch saves of each operation: both norms' inputs and outputs, queries, keys
    and values (repeated for each query head), attention's output before and after it is put in
    order, and the inner features before the activation, gated, and multiplied.
    """
    positions: float = run.micro_batch_sequences * shape.context / run.sequence_processes
    size = _FLOAT if precision == "fp32" else 2
    parts: int = run.tensor_processes
    stream, heads = shape.width, shape.heads * shape.head_features / parts
    inner = (4 if shape.activation == "swiglu" else 2) * shape.inner_features / parts
    if shape.experts is not None:  # what goes into each expert of a position, and what comes out
        inner = shape.experts_chosen * (inner + 2 * stream)
    narrow = 0 if adapters is None else adapters.rank * len(adapters.targets)  # between an adapter's two matrices
    layer = positions * (2 * stream * _FLOAT + (2 * stream + 5 * heads + inner + narrow) * size)
    kept = part.blocks * (positions * stream * _FLOAT if run.recompute else layer)
    # The output layer's gradient is worked out with the loss, where it is trained.
    table_gradient = _FLOAT * vocabulary * stream / parts if adapters is None else 0.0
    on_gpu = run.device == "cuda" or (run.device == "auto" and shutil.which("nvidia-smi") is not None)
    logits = min(_GPU_LOGITS if on_gpu else _LOGITS, positions * vocabulary)
    judging = 2 * _FLOAT * logits + table_gradient if part.judges else 0.0
    between = part.features * positions * stream * _FLOAT
    return part.in_flight * (kept + between) + (layer if run.recompute else 0.0) + judging
