"""Networks of Hugging Face ``transformers`` that read texts: safetensors only, and no code of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from storage.errors import SourceError

Device = Literal["auto", "cpu", "cuda"]
What = Literal["encoder", "translator", "text classifier"]

BATCH_TOKENS = 8_192
"""Tokens of a batch, filling included."""


def opened(folder: Path, what: What, device: Device) -> tuple[Any, Any]:
    """The network, float32 and in evaluation mode, and its tokenizer. Raises SourceError if they cannot be opened."""
    import torch
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    kinds = {
        "encoder": transformers.AutoModel,
        "translator": transformers.AutoModelForSeq2SeqLM,
        "text classifier": transformers.AutoModelForSequenceClassification,
    }
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    place = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
        network, loading = kinds[what].from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        a = "an" if what == "encoder" else "a"
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"{folder}: transformers cannot open it as {a} {what} ({reason})") from error
    # An encoder's pooler is not used here, so it may be missing.
    missing = sorted(n for n in loading["missing_keys"] if what != "encoder" or not n.startswith("pooler."))
    if missing:
        raise SourceError(
            f"{folder}: its weights lack {missing[0]} ({len(missing)} missing), so it is no trained {what}; "
            "get the whole folder"
        )
    if what == "encoder" and network.config.is_encoder_decoder:
        network = network.get_encoder()
    return network.eval().to(place), tokenizer


def context_of(config: Any, tokenizer: Any, otherwise: int = 512) -> int:
    """Tokens that network and tokenizer both have room for; ``otherwise`` where neither says."""
    bounds = [int(tokenizer.model_max_length)]
    for name in ("max_position_embeddings", "n_positions"):
        positions = getattr(config, name, None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa and its kin count positions from behind the filling token.
            behind = any(kin in config.model_type for kin in ("roberta", "camembert", "mpnet", "longformer"))
            bounds.append(positions - ((config.pad_token_id or 0) + 1 if behind else 0))
    least = max(1, min(bounds))
    return least if least < 1_000_000 else otherwise


def batches(lengths: Sequence[int], most_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Positions of rows, longest first, in batches of at most so many tokens once filled up."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def filled(rows: Sequence[Sequence[int]], filling: int, device: Any) -> dict[str, Any]:
    """``input_ids`` and ``attention_mask`` (rows × tokens), filled up behind to the longest row."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def filling_of(config: Any, tokenizer: Any) -> int:
    """The token that rows are filled up with."""
    known = (config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(number) for number in known if number is not None)
