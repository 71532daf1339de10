"""Where and how fast a step runs."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import Field

from model.launching.hosts import Hosts
from tasks.inputs import Settings

PLUMBING = "resources are never part of a key"


class Resources(Settings):
    """Where and how fast a step runs. Never part of a key."""

    engine: Literal["local", "ray"] = "local"
    """What runs a data step: processes of this machine, or a Ray cluster."""
    address: str | None = None
    """The Ray cluster's address (``HOST:6379``); without one, ``RAY_ADDRESS``, else the cluster on this machine."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Worker processes of a data step: as many as there are processors (with ``ray``: in the cluster), and fewer
    where memory is short."""
    processes: int = Field(1, ge=1)
    """Training processes (ranks), on all hosts together."""
    hosts: Hosts | None = None
    """The hosts of a training step; without it, this one."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed's ZeRO stage."""
    offload: Literal["none", "cpu"] = "none"
    """``cpu``: ZeRO keeps its share of weights, gradients and moments in the host's memory, and updates them there."""
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
    micro_batch_sequences: int = Field(8, ge=1)
    """Sequences that one training process handles at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a model runs; ``auto`` takes a GPU if there is one."""
