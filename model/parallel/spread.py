"""How a network is spread over processes and devices: settings that a recipe's resources and a run have in common.

Imports no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model.config import Frozen
from model.launching.hosts import Hosts

PLUMBING = "where and how fast a network is trained is never part of a key"


class Spread(Frozen):
    """Where and how fast a network is trained: nothing here shapes the result, but for its last bits."""

    processes: int = Field(1, ge=1)
    """Training processes (ranks), on all hosts together."""
    hosts: Hosts | None = None
    """The hosts of a training step; without it, this one."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed's ZeRO stage."""
    offload: Literal["none", "cpu", "nvme"] = "none"
    """``cpu``: ZeRO keeps its share of weights, gradients and moments in the host's memory, and updates them there.
    ``nvme``: likewise, with the share's weights and moments in files."""
    offload_folder: str | None = None
    """Folder on a fast disk of each host, for ``nvme``; without one, the step's scratch. Its files vanish with the
    processes."""
    sequence_processes: int = Field(1, ge=1)
    """Training processes that share the positions of the same sequences (Ulysses), for contexts too long for one."""
    tensor_processes: int = Field(1, ge=1)
    """Training processes that share every matrix of the network (tensor parallelism), for networks too large for one;
    best on one host, as they talk in every layer."""
    pipeline_processes: int = Field(1, ge=1)
    """Stages of a pipeline: each has some of the network's blocks, on training processes of its own, and
    micro-batches flow through them. Keeps all busy where a step has several times as many micro-batches."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass instead of kept: about a third slower, far less
    memory (activation checkpointing)."""
    compile: bool = False
    """Whether the network's blocks are compiled before training begins (torch.compile): faster steps, for a minute or
    two at the start; the next training of the same shape finds what was compiled."""
    micro_batch_sequences: int = Field(8, ge=1)
    """Sequences that one training process handles at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a model runs; ``auto`` takes a GPU if there is one."""
