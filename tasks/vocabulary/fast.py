"""A SentencePiece BPE model as ``tokenizer.json``, with the same ids.

SentencePiece joins the two neighbours whose union has the best score, the leftmost first;
``tokenizers`` joins the pair that stands first in its list of merges, the leftmost first. So the
list holds, in the order of the scores, *every* way in which a piece can be put together. Pieces are
written with real spaces instead of SentencePiece's mark, so that a text holding the mark itself
falls back to bytes and comes back whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.bpe.texts import SPACE_MARK
from storage.tokenizer import MASK_NAMES

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPECIAL_ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def write_fast_tokenizer(
    model: SentencePieceProcessor, runs: dict[str, tuple[int, int]], special: Sequence[str], folder: Path
) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, which ``AutoTokenizer`` opens.

    ``runs`` says of which characters runs are pieces of their own: character → shortest, longest;
    ``special`` names the special tokens beside those with a role.
    """
    (folder / "tokenizer.json").write_text(_text(_fast(model, runs, special)), "utf-8")
    (folder / "tokenizer_config.json").write_text(_text(_config(special)), "utf-8")


def _text(value: Any) -> str:
    # Indented, it would be written by Python instead of C, ten times as slowly.
    return json.dumps(value, ensure_ascii=False) + "\n"


def _config(special: Sequence[str]) -> dict[str, Any]:
    named: dict[str, Any] = {"additional_special_tokens": list(special)} if special else {}
    if masks := [name for name in MASK_NAMES if name in special]:
        named["mask_token"] = masks[0]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        # The name of a special token within a text is text.
        "split_special_tokens": True,
        "model_max_length": 10**30,
        **SPECIAL_ROLES,
        **named,
    }


def _fast(model: SentencePieceProcessor, runs: dict[str, tuple[int, int]], special: Sequence[str]) -> dict[str, Any]:
    vocabulary, joinable = _vocabulary(model)
    added = [{"id": vocabulary[name], "content": name} for name in (*SPECIAL_ROLES.values(), *special)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pattern = "|".join(f"{character}{{{least},{most}}}" for character, (least, most) in runs.items())
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted((token | flags for token in added), key=lambda token: token["id"]),
        "normalizer": None,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIAL_ROLES["unk_token"],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(joinable),
        },
    }


def _vocabulary(model: SentencePieceProcessor) -> tuple[dict[str, int], dict[str, int]]:
    """All pieces by name, and those that texts are made of (not the special and the byte pieces), by ascending id."""
    everything, joinable = {}, {}
    for token in range(model.get_piece_size()):
        piece = model.id_to_piece(token)
        if model.is_byte(token) or model.is_control(token) or model.is_unknown(token):
            everything[piece] = token
        else:
            everything[piece.replace(SPACE_MARK, " ")] = joinable[piece.replace(SPACE_MARK, " ")] = token
    return everything, joinable


def _merges(joinable: dict[str, int]) -> list[list[str]]:
    """Every split of every piece into two pieces, in the order of the pieces' ids, which is that of their scores."""
    return [
        [piece[:cut], piece[cut:]]
        for piece in joinable
        for cut in range(1, len(piece))
        if piece[:cut] in joinable and piece[cut:] in joinable
    ]
