"""The blocks of a network, compiled for training by ``torch.compile``: fewer passes over memory between the products.

Compiled is what comes before attention in a block, and what follows it. Attention is a kernel of its own already, and
what positions see changes with every batch; so compiled are functions of tensors whose shapes stay as they are, once
for all blocks. Other shapes (of evaluations) go through the network as it is.

Imports the compiler only where a network is compiled: that takes two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from model.network.transformer import Layer, Transformer
from storage.errors import UserError

_KINDS = 64
"""Of the same function that are compiled at most: by the shape of a batch, with positions or without, and so on."""


class Compiled:
    """What of a network is compiled, and for which shapes."""

    def __init__(self, network: Transformer) -> None:
        """Let the network's blocks be compiled, in place. Nothing is yet."""
        import torch._dynamo

        torch._dynamo.config.recompile_limit = _KINDS
        self._shapes: set[tuple[int, int]] = set()
        for layer in network.model.layers:
            assert isinstance(layer, Layer)
            layer.before = self._either(layer.before)  # type: ignore[method-assign]
            layer.after = self._either(layer.after)  # type: ignore[method-assign]

    def expect(self, shapes: Iterable[tuple[int, int]]) -> None:
        """From now on, what is learnt from batches of these shapes (rows, positions) goes through what is compiled."""
        self._shapes |= set(shapes)

    def _either(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(plain, fullgraph=True, dynamic=False)

        def work(x_BTD: torch.Tensor, *rest: Any) -> Any:
            expected = torch.is_grad_enabled() and (x_BTD.shape[0], x_BTD.shape[1]) in self._shapes
            return compiled(x_BTD, *rest) if expected else plain(x_BTD, *rest)

        return work


@contextmanager
def explained() -> Iterator[None]:
    """Let a failure of the compiler be a UserError with the remedy."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import CppCompileError

    try:
        yield
    except (TorchDynamoException, CppCompileError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"resources compile: the network cannot be compiled here: {said}; leave compile out") from error
