"""What a run continues from: an engine's trainable weights, its optimiser's moments and numbers.

Each process keeps, and takes back, what it optimises itself; nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from model.checkpoints.layout import Fragment
from model.checkpoints.part_file import WEIGHTS, Part, Parts, Piece
from model.engine import Engine
from model.learning.on_disk import Disk
from model.learning.optimizer import AVERAGE
from model.parallel.tensor import address_of, share_of

_SCALER_STATE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
_STEP = "step"


class HostCopies:
    """Copies of tensors in the host's memory, in the same place every time: page-locked for those of a GPU, and on the
    ``disk`` where tensors lie there."""

    def __init__(self, disk: Disk | None = None) -> None:
        self._disk = disk
        self._places: dict[str, Tensor] = {}

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The copies, whole when this returns; those of the call before are overwritten."""
        self._places = {name: place for name, place in self._places.items() if name in tensors}
        for name, tensor in tensors.items():
            place = self._places.get(name)
            if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
                if self._disk is not None and not tensor.is_cuda:
                    place = self._disk.zeros(tensor)
                else:
                    place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self._places[name] = place
            place.copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        return dict(self._places)


@torch.no_grad()
def part_of(engine: Engine, copies: HostCopies) -> Part:
    """This process's part of the state: with those of the others, every value once."""
    layout = engine.layout
    tensors: dict[str, Tensor] = {}
    pieces: list[Piece] = []
    numbers = {id(flat): number for number, flat in enumerate(layout.flat_tensors())}
    for number, flat in enumerate(layout.flat_tensors()):
        own = _own_range(engine, flat)
        if len(own):
            tensors[f"{WEIGHTS}/{number}"] = flat.detach().flatten()[own.start : own.stop]
            for kind, values in _moments(engine, flat).items():
                tensors[f"{kind}/{number}"] = values.flatten()[own.start : own.stop]
    for name, weight in layout.trainable.items():
        if share_of(weight) is None and engine.grid.tensor.rank > 0:
            continue  # the first of those that share a network keeps what all of them have
        before, columns = address_of(weight)
        for fragment in layout.fragments(weight):
            own = _own_range(engine, fragment.flat)
            first = max(fragment.flat_start, own.start)
            last = min(fragment.flat_start + fragment.length, own.stop)
            if first < last:
                begin = before + fragment.weight_start + first - fragment.flat_start
                flat_number = numbers[id(fragment.flat)]
                pieces.append(Piece(name, begin, last - first, flat_number, first - own.start, columns))
    return Part(copies.of(tensors), tuple(pieces))


def _own_range(engine: Engine, flat: Tensor) -> range:
    """What of a flat tensor this process keeps: all, or its share where others have the same."""
    if engine.layout.cut:
        return range(flat.numel())
    size, same = flat.numel(), engine.grid.replicas
    return range(size * same.rank // same.size, size * (same.rank + 1) // same.size)


def _moments(engine: Engine, flat: Tensor) -> dict[str, Tensor]:
    """What the optimiser keeps of a flat tensor's values, by kind."""
    found = {}
    for kind, values in sorted(engine.optimizer.state.get(flat, {}).items()):
        if kind != _STEP:
            assert values.numel() == flat.numel(), f"{kind}: an optimiser's state that no checkpoint keeps"
            found[kind] = values
    return found


def numbers_of(engine: Engine) -> dict[str, float]:
    """The optimiser's count of steps and the loss scale's state: the same on every process."""
    numbers: dict[str, float] = {}
    for entry in engine.optimizer.state.values():
        numbers[_STEP] = float(entry[_STEP])
    if engine.scaler is not None:
        numbers |= {key: float(getattr(engine.scaler, key)) for key in _SCALER_STATE}
    return numbers


@torch.no_grad()
def restore(engine: Engine, parts: Parts, numbers: Mapping[str, float]) -> None:
    """Take over what processes kept, however many there were, and however they shared the network.

    All processes must call it.
    """
    layout = engine.layout
    for name, weight in layout.trainable.items():
        kinds, (before, columns) = parts.kinds_of(name), address_of(weight)
        _prepare(engine, layout.flat_of(weight), [kind for kind in kinds if kind != WEIGHTS], numbers)
        for fragment in layout.fragments(weight):
            for kind in kinds if fragment.length else []:
                values = parts.read(kind, name, before + fragment.weight_start, fragment.length, columns)
                _place_of(engine, fragment, kind).copy_(values)
    layout.hand_out()
    if engine.scaler is not None and numbers:
        for key in _SCALER_STATE:
            setattr(engine.scaler, key, type(getattr(engine.scaler, key))(numbers[key]))


def _prepare(engine: Engine, flat: Tensor, kinds: list[str], numbers: Mapping[str, float]) -> None:
    """Make room for a flat tensor's moments; where a process has nothing but filling, they stay zero."""
    if _STEP not in numbers:
        return
    state = engine.optimizer.state[flat]
    state[_STEP] = torch.tensor(numbers[_STEP], dtype=torch.float32, device=flat.device)
    for kind in kinds:
        if kind not in state:
            state[kind] = torch.zeros_like(flat)


@contextmanager
def averaged(engine: Engine) -> Iterator[None]:
    """With the averages of weights in the network, where the optimiser keeps any. All processes must enter it."""
    _exchange_averages(engine)
    try:
        yield
    finally:
        _exchange_averages(engine)


@torch.no_grad()
def _exchange_averages(engine: Engine) -> None:
    """Put averages where weights are, and weights where averages are."""
    kept = False
    for flat in engine.layout.flat_tensors():
        average = engine.optimizer.state.get(flat, {}).get(AVERAGE)
        if average is not None:
            weights, kept = flat.detach().clone(), True
            flat.detach().copy_(average)
            average.copy_(weights)
    if kept:
        engine.layout.hand_out()


def _place_of(engine: Engine, fragment: Fragment, kind: str) -> Tensor:
    """Where values of a kind go."""
    flat = fragment.flat
    whole: Tensor = flat.detach() if kind == WEIGHTS else engine.optimizer.state[flat][kind]
    return whole.view(-1)[fragment.flat_start : fragment.flat_start + fragment.length]
