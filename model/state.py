"""What a run continues from: an engine's trainable weights, its optimiser's moments and numbers."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.engine import Engine
from model.layout import Fragment, shape_of

_SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@torch.no_grad()
def state_of(engine: Engine) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Trainable weights and the optimiser's moments, whole, and its numbers. All processes must call it."""
    tensors = {f"weights/{name}": weight for name, weight in engine.weights(trainable_only=True).items()}
    numbers: dict[str, float] = {}
    for name, weight in engine.layout.trainable.items():
        for key in sorted(engine.optimizer.state.get(engine.layout.flat_of(weight), {}).keys() - {"step"}):
            tensors[f"{key}/{name}"] = _gathered(engine, weight, key)
    for entry in engine.optimizer.state.values():
        numbers["step"] = float(entry["step"])
    if engine.scaler is not None:
        numbers |= {key: float(getattr(engine.scaler, key)) for key in _SCALER_STATE}
    return tensors, numbers


@torch.no_grad()
def restore(engine: Engine, tensors: dict[str, Tensor], numbers: dict[str, float]) -> None:
    """Take over moments and numbers that ``state_of`` gave, on any number of processes and any ZeRO stage.

    The weights are to be loaded into the network before the engine is made (``load_weights``).
    """
    if "step" not in numbers:
        return
    for place, whole in tensors.items():
        key, _, name = place.partition("/")
        if key == "weights":
            continue
        weight = engine.layout.trainable[name]
        flat = engine.layout.flat_of(weight)
        state = engine.optimizer.state[flat]
        state["step"] = torch.tensor(numbers["step"], dtype=torch.float32)
        state.setdefault(key, torch.zeros_like(flat))
        for part in engine.layout.fragments(weight):
            values = whole.flatten()[part.weight_start : part.weight_start + part.length]
            _moment(engine, part, key).copy_(values)
    if engine.scaler is not None:
        for key in _SCALER_STATE:
            setattr(engine.scaler, key, type(getattr(engine.scaler, key))(numbers[key]))


def _gathered(engine: Engine, weight: Tensor, key: str) -> Tensor:
    """One moment of one weight, put together from all processes' fragments."""
    shape = shape_of(weight)
    whole = torch.zeros(math.prod(shape), device=engine.device)
    for part in engine.layout.fragments(weight):
        whole[part.weight_start : part.weight_start + part.length] = _moment(engine, part, key)
    if engine.processes > 1 and engine.layout.cut:
        dist.all_reduce(whole)
    return whole.view(shape).cpu()


def _moment(engine: Engine, part: Fragment, key: str) -> Tensor:
    moment: Tensor = engine.optimizer.state[part.flat][key].flatten()
    return moment[part.flat_start : part.flat_start + part.length]


def load_weights(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the trainable weights that ``state_of`` gave into a network, before its engine is made."""
    own = dict(network.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name.startswith("weights/"):
                own[name.removeprefix("weights/")].copy_(tensor)
