"""Causal models of ``transformers`` that our network cannot be, run as they are.

They are opened from safetensors alone and with no code of their own, and take part in training,
scoring and generation like our network. Each document is given to them by itself, so packing needs
nothing of them: neither masks nor positions, and a recurrent model serves as well.

    B rows   T positions   R documents of a part   L the longest of them   V vocabulary
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.formats import adapters
from model.network.cross_entropy import Softening
from model.network.sight import PADDING
from model.network.transformer import IGNORED
from storage.errors import UserError

_WITHOUT_LIMIT = 2_048
"""Context of a model that names none (recurrent ones, or those with ALiBi)."""
_OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class ForeignShape:
    """What the loop asks of a network's shape."""

    context: int
    parameters: int
    attention: Literal["causal"] = "causal"

    def flops_per_token(self, vocabulary: int, length: int | None = None) -> float:
        """Six for each weight, attention left out (Kaplan et al. 2020, section 2.1)."""
        return 6.0 * self.parameters


@dataclass
class ForeignCache:
    """What a model remembers of the positions seen so far."""

    past: Any = None
    """In its own form, if it gives one."""
    tokens_BT: Tensor | None = None
    """The tokens themselves."""


class Foreign(nn.Module):
    """A causal model of ``transformers`` with the signature of our network."""

    def __init__(self, inner: Any, shape: ForeignShape) -> None:
        super().__init__()
        self.inner = inner
        self.shape = shape
        self.vocabulary = int(inner.get_input_embeddings().num_embeddings)
        if (output := inner.get_output_embeddings()) is not None:
            output.is_output = True  # for ``transformer.parameter_kinds``

    def new_cache(self) -> ForeignCache:
        return ForeignCache()

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        targets_BT: Tensor | None = None,
        cache: ForeignCache | None = None,
        rows_B: Tensor | None = None,
        softening: Softening | None = None,
    ) -> Tensor:
        """As ``Transformer.forward``. Positions follow from the documents; without targets, a row is one document."""
        if targets_BT is None:
            return self._continued(tokens_BT, cache)
        parts = list(_parts(tokens_BT, targets_BT, documents_BT))
        # Under ZeRO 3 every forward gathers weights from all processes: all must do as many, and agree on it first.
        nothing = tokens_BT[:1, :1], torch.full_like(tokens_BT[:1, :1], IGNORED)
        parts += [nothing] * (_most(len(parts), tokens_BT.device) - len(parts))
        sums = [self._losses(tokens_RL, targets_RL, softening) for tokens_RL, targets_RL in parts]
        total = torch.stack(sums).sum(0)
        return total[0] if softening is None else total

    def _losses(self, tokens_RL: Tensor, targets_RL: Tensor, softening: Softening | None) -> Tensor:
        """What training is to make small, and the plain sum of the cross-entropy."""
        logits_RLV = self.inner(input_ids=tokens_RL, use_cache=False).logits
        predicted_RL = targets_RL != IGNORED
        logits_NV, targets_N = logits_RLV[predicted_RL].float(), targets_RL[predicted_RL]
        nothing = logits_RLV.flatten()[0].float() * 0.0  # so that there is a gradient where nothing is predicted
        plain = F.cross_entropy(logits_NV, targets_N, reduction="sum") + nothing
        if softening is None:
            return torch.stack((plain, plain.detach()))
        spread = softening.label_smoothing
        softened = F.cross_entropy(logits_NV, targets_N, reduction="sum", label_smoothing=spread) + nothing
        softened = softened + softening.z_loss * logits_NV.logsumexp(1).square().sum()
        return torch.stack((softened, plain.detach()))

    def _continued(self, tokens_BT: Tensor, cache: ForeignCache | None) -> Tensor:
        if cache is None:
            return self.inner(input_ids=tokens_BT, use_cache=False).logits  # type: ignore[no-any-return]
        seen_BT = tokens_BT if cache.tokens_BT is None else torch.cat((cache.tokens_BT, tokens_BT), 1)
        made = self.inner(
            input_ids=seen_BT if cache.past is None else tokens_BT, past_key_values=cache.past, use_cache=True
        )
        cache.past, cache.tokens_BT = getattr(made, "past_key_values", None), seen_BT
        return made.logits[:, -tokens_BT.shape[1] :]  # type: ignore[no-any-return]


def _parts(tokens_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The documents, each a row of its own and filled up behind, in parts of at most B x T positions."""
    if documents_BT is None:
        yield tokens_BT, targets_BT
        return
    flat = documents_BT.flatten().cpu()
    length = documents_BT.shape[1]
    edges = [0, *(1 + (flat[1:] != flat[:-1]).nonzero()[:, 0]).tolist(), len(flat)]
    edges = sorted({*edges, *range(0, len(flat), length)})
    pieces = [(start, stop) for start, stop in pairwise(edges) if flat[start] != PADDING]
    pieces.sort(key=lambda piece: (piece[0] - piece[1], piece[0]))  # longest first
    tokens, targets = tokens_BT.flatten(), targets_BT.flatten()
    while pieces:
        longest = pieces[0][1] - pieces[0][0]
        now, pieces = pieces[: len(flat) // longest], pieces[len(flat) // longest :]
        yield (
            nn.utils.rnn.pad_sequence([tokens[start:stop] for start, stop in now], batch_first=True),
            nn.utils.rnn.pad_sequence([targets[start:stop] for start, stop in now], True, IGNORED),
        )


def _most(count: int, device: torch.device) -> int:
    """The largest count of all processes, at least 1."""
    most = torch.tensor([max(count, 1)], device=device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most)


def shape_in(folder: Path) -> tuple[ForeignShape, int]:
    """Shape and vocabulary of the model in a folder. Raises UserError for what ``transformers`` does not know."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, **_OPTIONS)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: transformers does not know the model ({_first_line(error)})") from error
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    limits = [value for name in names if isinstance(value := getattr(config, name, None), int) and value > 1]
    return ForeignShape(limits[0] if limits else _WITHOUT_LIMIT, _parameters(folder)), int(config.vocab_size)


def load(folder: Path) -> Foreign:
    """The model in a folder (or in an adapter folder, merged into its base), float32 and in evaluation mode.

    Raises UserError for a folder that ``transformers`` cannot open as a causal model from safetensors alone.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    base = folder / "base" if (folder / adapters.CONFIG).is_file() else folder
    shape, _ = shape_in(base)
    try:
        inner, loading = transformers.AutoModelForCausalLM.from_pretrained(
            base, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **_OPTIONS
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UserError(f"{base}: transformers cannot open it as a causal model ({_first_line(error)})") from error
    if missing := sorted(loading["missing_keys"]):
        raise UserError(f"{base}: lacks weight {missing[0]} (of {len(missing)}); get the whole folder")
    network = Foreign(inner, shape)
    if base != folder:
        _merge(network, folder)
    return network.eval()


def write(folder: Path, base: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a folder like ``base`` with these weights (names as in ``Foreign``), but for the tokenizer's files."""
    network = load(base)
    network.load_state_dict({name: weights[name] for name, _ in network.named_parameters()}, strict=False)
    _save(network, folder, base)


def write_merged(folder: Path, start: Path, adapter: Path | None = None) -> None:
    """Write the model in the folder ``start`` with its adapter, and one more, added to its weights."""
    network = load(start)
    if adapter is not None:
        _merge(network, adapter)
    _save(network, folder, start)


def _save(network: Foreign, folder: Path, base: Path) -> None:
    wanted = dict(network.named_parameters())
    state = network.inner.state_dict()
    # Tied weights have one name among the parameters; buffers belong to the state too.
    kept = {name.removeprefix(adapters.WRAPPED) for name in wanted} | {
        name for name, _ in network.inner.named_buffers()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in sorted(state.items()) if name in kept},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    source = base / "base" if (base / adapters.CONFIG).is_file() else base
    for name in ("config.json", "generation_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def linear_layers(folder: Path) -> tuple[str, ...]:
    """Names of the linear layers of the model in a folder, but for its output layer: what adapters go on."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        inner = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **_OPTIONS))
    output = inner.get_output_embeddings()
    found = {
        name.rpartition(".")[2] for name, module in inner.named_modules() if is_linear(module) and module is not output
    }
    return tuple(sorted(found))


def is_linear(module: nn.Module) -> bool:
    """Whether it multiplies by a matrix: GPT-2 and its kin have a class of their own for that, with it transposed."""
    return isinstance(module, nn.Linear) or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


@torch.no_grad()
def _merge(network: Foreign, folder: Path) -> None:
    """Add a plain LoRA adapter to the weights."""
    config = json.loads((folder / adapters.CONFIG).read_text(encoding="utf-8"))
    adapters.check_plain(folder, config)
    tensors = load_file(folder / adapters.WEIGHTS)
    scale = config["lora_alpha"] / config["r"]
    for name, down in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        layer = network.inner.get_submodule(name.removeprefix(adapters.PREFIX).removesuffix(".lora_A.weight"))
        change = scale * (tensors[name.replace(".lora_A.", ".lora_B.")] @ down)
        layer.weight.add_(change.t() if _is_transposed(layer) else change)


def _parameters(folder: Path) -> int:
    """Numbers in the weight files."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                shape = file.get_slice(name).get_shape()
                total += int(torch.Size(shape).numel())
    return total


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
