"""What a training leaves: its result, and what is made of moments of it on the way."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.checkpoints.checkpoint import Checkpoints
from model.checkpoints.keeping import BestKeeper, StateKeeper
from model.checkpoints.publishing import Publisher, weights_in
from model.checkpoints.saver import Moments
from model.checkpoints.state import averaged
from model.checkpoints.stem import stem_of
from model.config import ModelConfig
from model.engine import Engine
from model.formats import adapters, foreign, huggingface
from model.formats.foreign import ForeignShape
from model.learning.objective_config import SpansConfig
from model.request import NetworkFolder, RandomNetwork, Request
from storage.errors import StoreCorrupted


def weights_of(request: Request, engine: Engine, best: BestKeeper, outcome: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that become the result, whole. All processes must call it."""
    if request.keep == "best" and outcome["best_step"] != outcome["steps"]:
        place = best.of(outcome["best_step"])
        kept = Checkpoints(place, request.identity).latest()
        if kept is None:
            raise StoreCorrupted(f"{place}: the best weights are not there whole; `--rebuild` the step")
        return weights_in(kept.parts, engine.shapes())
    with averaged(engine):
        return engine.weights(trainable_only=request.adapter is not None)


def write_result(request: Request, output: Path, weights: dict[str, torch.Tensor], vocabulary: int) -> None:
    """The trained model as a Hugging Face folder, or the adapter as PEFT's, without tokenizer files."""
    adapter = request.adapter
    if adapter is not None:
        found = adapters.adapter_state(weights)
        adapters.save(output, found, adapter.rank, adapter.alpha, adapter.targets)
        return
    special, shape = request.special_tokens, shape_of(request)
    if isinstance(shape, ForeignShape):
        assert isinstance(request.network, NetworkFolder)
        foreign.write(output, request.network.opened.folder, weights)
        return
    huggingface.write(
        output, shape, vocabulary, weights, special.bos, special.eos, special.pad, special.mask,
        fills_gaps=isinstance(request.objective, SpansConfig),
    )  # fmt: skip


def publishers_of(request: Request, engine: Engine, vocabulary: int, steps: int) -> list[Moments]:
    """What is made of moments of the run: models, and the state that longer runs can continue from."""
    run = request.run
    found: list[Moments] = []
    if run.publish_every is not None:
        every = math.ceil(run.publish_every / request.batch_tokens)
        write = partial(_write_published, request, vocabulary)
        found.append(Publisher(run.scratch, every, request.batch_tokens, engine.shapes(), write, steps))
    if run.keep_state:
        stem_steps, stem = stem_of(request)
        found.append(StateKeeper(run.scratch, stem_steps, request.batch_tokens, stem))
    return found


def _write_published(request: Request, vocabulary: int, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """A model on the way, with the files that belong to it."""
    write_result(request, folder, weights, vocabulary)
    if request.run.published_with is not None:
        shutil.copytree(request.run.published_with, folder, dirs_exist_ok=True)


def shape_of(request: Request) -> ModelConfig | ForeignShape:
    """The shape of the network that is trained."""
    if isinstance(request.network, RandomNetwork):
        return request.network.shape
    return huggingface.shape_in(request.network.opened.folder)[0]
