"""Model folders in Hugging Face's form, in and out; ``model.formats.families`` says which networks they can hold.

Opened: ``config.json`` and safetensors, in one file or in several with an index. Nothing is ever
unpickled. What the network cannot represent is refused, rather than approximated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import ModelConfig
from model.formats import adapters, families, foreign
from model.formats.foreign import Foreign, ForeignShape
from model.network.encoder import CLASSES, HEAD, PairEncoder
from model.network.transformer import Transformer
from storage.artifact import Artifact, FileEntry, Manifest
from storage.errors import UserError
from storage.identity import digest_of_file

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
OUTPUT_LAYER = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
TOKENIZER_FILES = (
    *("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"),
)
FILLS_GAPS = "fills_gaps"
"""Our own word in ``config.json``; others pass over it."""
DERIVED = "rotary_emb.inv_freq"
"""Old folders store this constant beside the weights."""


def load(folder: Path, device: str | torch.device = "cpu") -> Transformer | Foreign:
    """The network in a model folder, or in an adapter folder (merged into the base below ``base/``).

    Ours where it can be, else as ``transformers`` runs it. Float32, in evaluation mode. Raises UserError for a folder
    that neither can open.
    """
    if is_foreign(folder):
        return foreign.load(folder).to(device)
    config, vocabulary, weights = read(folder)
    return network_of(config, vocabulary, weights).to(device).eval()


def is_foreign(folder: Path) -> bool:
    """Whether the network in a model or adapter folder is one that ours cannot be."""
    return not families.can_be(_described(base_of(folder)))


def shape_in(folder: Path) -> tuple[ModelConfig | ForeignShape, int]:
    """The shape of the network in a model or adapter folder, and the size of its vocabulary."""
    return foreign.shape_in(base_of(folder)) if is_foreign(folder) else read_config(base_of(folder))


def read(folder: Path) -> tuple[ModelConfig, int, dict[str, Tensor]]:
    """Shape, vocabulary and weights in a model folder, or in an adapter folder merged into its base."""
    base = base_of(folder)
    config, vocabulary = read_config(base)
    weights = read_weights(base, config, vocabulary)
    if base != folder:
        adapters.merge_into(weights, folder)
    return config, vocabulary, weights


def base_of(folder: Path) -> Path:
    """Where the whole model is: below ``base/`` in an adapter folder, else the folder itself."""
    return folder / "base" if (folder / adapters.CONFIG).is_file() else folder


def network_of(config: ModelConfig, vocabulary: int, weights: Mapping[str, Tensor]) -> Transformer:
    """A network that holds these very tensors (Hugging Face names), with no time lost on first values."""
    with torch.device("meta"):
        network = (PairEncoder if _has_head(weights) else Transformer)(config, vocabulary)
    network.load_state_dict(_with_output_layer(config, weights), assign=True)
    if config.tied_embeddings:
        network.lm_head.weight = network.model.embed_tokens.weight
    return network


def read_config(folder: Path) -> tuple[ModelConfig, int]:
    """The shape of the network in a Hugging Face folder, and the size of its vocabulary."""
    return families.shape_of(folder / "config.json", _described(folder))


def _described(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: no config.json, so it is not a Hugging Face model folder")
    try:
        described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    return described


def read_weights(folder: Path, config: ModelConfig, vocabulary: int) -> dict[str, Tensor]:
    """All weights in float32 by their Hugging Face names, checked against the shape's.

    With tied embeddings there is no output layer among them.
    """
    weights: dict[str, Tensor] = {}
    model_type = _described(folder)["model_type"]
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    if not name.endswith(DERIVED):
                        ours = families.renamed(name, model_type, to_ours=True)
                        weights[ours] = file.get_tensor(name).to(torch.float32)
        except SafetensorError as error:
            raise UserError(f"{path}: cannot be read as safetensors: {error}") from error
    if config.tied_embeddings:
        weights.pop(OUTPUT_LAYER, None)
    _check_weights(folder, weights, expected_shapes(config, vocabulary, _has_head(weights)))
    _shift_gains(weights, families.gain_offset(model_type))
    return weights


def expected_shapes(config: ModelConfig, vocabulary: int, of_pairs: bool = False) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a network, ``of_pairs``: of one with the output that classifies pairs."""
    with torch.device("meta"):
        network = (PairEncoder if of_pairs else Transformer)(config, vocabulary)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if config.tied_embeddings:
        shapes.pop(OUTPUT_LAYER, None)
    return shapes


def tokenizer_of(artifact: Artifact) -> Tokenizer:
    """The tokenizer in a model or adapter folder. Raises UserError if there is none."""
    from storage.tokenizer import Tokenizer

    files = {name: entry for name, entry in artifact.manifest.files.items() if name in TOKENIZER_FILES}
    if not files.keys() & {"tokenizer.model", "tokenizer.json"}:
        raise UserError(
            f"{artifact.folder}: no tokenizer.model or tokenizer.json, so there is no tokenizer to use it with"
        )
    return Tokenizer(artifact.folder, Manifest(kind=Tokenizer.kind, files=files))


def tokenizer_in(folder: Path) -> Tokenizer:
    """The tokenizer in a plain model or adapter folder. Raises UserError if there is none."""
    names = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    files = {n: FileEntry(object=digest_of_file(folder / n), bytes=(folder / n).stat().st_size) for n in names}
    return tokenizer_of(Artifact(folder, Manifest(kind="", files=files)))


def write(
    folder: Path,
    config: ModelConfig,
    vocabulary: int,
    weights: Mapping[str, Tensor],
    bos: int,
    eos: int,
    pad: int | None,
    mask: int | None = None,
    fills_gaps: bool = False,
) -> None:
    """Write a folder that ``AutoModelForCausalLM`` opens, but for the tokenizer's files.

    An encoder is for ``AutoModelForMaskedLM``, and where it classifies pairs of segments, the same folder is for
    ``AutoModelForSequenceClassification`` (class 0: the second follows the first); what no family can be
    (``model.formats.families``) is for us alone. ``fills_gaps``: it has learnt that and nothing else.
    The same weights give the same bytes: no version, no path, no time in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    described = families.description_of(config, vocabulary)
    if config.attention == "bidirectional":
        described |= {"mask_token_id": mask} if mask is not None else {}
        described |= {"classifier_pooling": "bos", "num_labels": CLASSES} if _has_head(weights) else {}
    described |= {FILLS_GAPS: True} if fills_gaps else {}
    _write_json(folder / "config.json", {**described, **special})
    _write_json(folder / "generation_config.json", special)
    kept = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(weights.items())
        if not (config.tied_embeddings and name == OUTPUT_LAYER)
    }
    _check_weights(folder, kept, expected_shapes(config, vocabulary, _has_head(kept)))
    model_type = described["model_type"]
    _shift_gains(kept, -families.gain_offset(model_type))
    theirs = {families.renamed(name, model_type): tensor for name, tensor in kept.items()}
    save_file(theirs, folder / WEIGHTS, metadata={"format": "pt"})


def fills_gaps(folder: Path) -> bool:
    """Whether what is in a model folder has learnt to fill gaps of texts and nothing else."""
    return (folder / "config.json").is_file() and bool(_described(folder).get(FILLS_GAPS))


def _has_head(weights: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of a ``PairEncoder``."""
    return any(name.startswith(HEAD) for name in weights)


def _with_output_layer(config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, OUTPUT_LAYER: weights[EMBEDDING]} if config.tied_embeddings else dict(weights)


def _shift_gains(weights: dict[str, Tensor], offset: float) -> None:
    """Add to the gains of all norms, in place of the mapping."""
    if offset:
        for name in [name for name in weights if name.endswith("norm.weight")]:
            weights[name] = weights[name] + offset


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: no {WEIGHTS}; weights in other formats are not opened, convert them to safetensors")
    names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {INDEX} names {missing[0]}, which is not there")
    return [folder / name for name in names]


def _check_weights(folder: Path, weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError naming the first weight that is missing, unknown, or of another shape."""
    for problem, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has the unknown", weights.keys() - expected.keys()),
    ):
        if names:
            raise UserError(f"{folder}: {problem} weight {_first(names)}")
    for name, tensor in weights.items():
        if tuple(tensor.shape) != expected[name]:
            raise UserError(f"{folder}: {name} has shape {tuple(tensor.shape)}; config.json asks for {expected[name]}")


def _first(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ordered[0] + (f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else "")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
