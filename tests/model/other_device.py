"""A GPU played on the CPU: tensors that say they are on ``cuda``, hold real values, and do not mix with the CPU's.

What a GPU refuses is refused (operations on tensors of both places, ``numpy``), so code that makes a tensor on the
wrong device fails as it would there. Its kernels are those of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
_MOVES = ("aten::_to_copy", "aten::copy_")
_INDEXES = ("aten::index.", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
"""Operations that take indices of the CPU on a GPU too."""
_LOWERED = (
    *(F.linear, torch.matmul, torch.mm, torch.bmm, torch.addmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm),
    F.scaled_dot_product_attention,
)
"""Functions that autocast lowers the precision of."""


class OnGpu(Tensor):
    """A tensor of the GPU that is played."""

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> OnGpu:
        shadow = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="meta")
        made: OnGpu = torch.Tensor._make_subclass(cls, shadow, False, device_for_backend_keys=GPU)  # type: ignore[attr-defined]
        made.held = real
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("worked on where no GPU is played")


class _Kernels(TorchDispatchMode):
    def __init__(self, products: list[tuple[str, torch.dtype]]) -> None:
        super().__init__()
        self._products = products

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        known = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, OnGpu)}
        _check(func, args, tensors, bool(known))
        asked = given.get("device")
        there = bool(known) if asked is None else torch.device(asked).type != "cpu"
        if asked is not None:
            given["device"] = torch.device("cpu")
        if func.name().startswith("aten::copy_"):
            there = isinstance(args[0], OnGpu)
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_", "bmm") and there:
            self._products.append((func.overloadpacket.__name__, args[-1].dtype))
        made = func(*tree_map(_real, args), **tree_map(_real, given))
        return tree_map(lambda x: known.get(id(x), OnGpu(x) if there else x) if isinstance(x, Tensor) else x, made)


def _real(x: Any) -> Any:
    return x.held if isinstance(x, OnGpu) else x


def _check(func: Any, args: Any, tensors: list[Tensor], gpu: bool) -> None:
    """Raise RuntimeError for what a GPU does not take together."""
    name = func.name()
    if not gpu or name.startswith(_MOVES):
        return
    if name.startswith(_INDEXES):
        indices = {id(index) for index in tree_leaves(args[1])}
        tensors = [tensor for tensor in tensors if id(tensor) not in indices]
    scalars = "_fused_" not in name and "cat" not in name
    strange = [x for x in tensors if not isinstance(x, OnGpu) and not (scalars and x.dim() == 0)]
    if strange:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, and {len(strange)} are on the CPU")


class _Functions(TorchFunctionMode):
    """What PyTorch leaves out where it knows of no GPU: tensors there of Python's numbers, and autocast of products."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is Tensor.new_tensor and isinstance(args[0], OnGpu):
            return torch.tensor(args[1], dtype=given.get("dtype", args[0].dtype)).to(GPU)
        if func in (torch.tensor, torch.as_tensor) and torch.device(given.get("device") or "cpu").type == "cuda":
            del given["device"]
            return args[0] if isinstance(args[0], OnGpu) else func(*args, **given).to(GPU)
        if func in _LOWERED and torch.is_autocast_enabled("cuda") and given.get("out") is None:
            args, given = tree_map(_lowered, (args, given))
        return func(*args, **given)


def _lowered(x: Any) -> Any:
    return x.to(torch.get_autocast_dtype("cuda")) if isinstance(x, OnGpu) and x.is_floating_point() else x


@contextmanager
def played() -> Iterator[list[tuple[str, torch.dtype]]]:
    """Play a GPU; gives the operations by which it has multiplied matrices so far, each with its numbers' type."""
    products: list[tuple[str, torch.dtype]] = []
    with ExitStack() as stack:
        for place, name, answer in (
            (torch.cuda, "_lazy_init", None),
            (torch.cuda.amp.common, "amp_definitely_not_available", False),
            (torch.cuda, "is_bf16_supported", True),
            (torch.cuda, "get_device_capability", (8, 0)),
        ):
            stack.enter_context(mock.patch.object(place, name, mock.Mock(return_value=answer)))
        stack.enter_context(_Kernels(products))
        stack.enter_context(_Functions())
        yield products


def moved(network: nn.Module) -> nn.Module:
    """The network on the GPU that is played, in place; what is tied stays so."""
    found: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in found:
                found[id(weight)] = nn.Parameter(weight.detach().to(GPU), weight.requires_grad)
            module._parameters[name] = found[id(weight)]
        for name, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[name] = buffer.to(GPU)
    return network
