"""Small artifacts made by hand: a byte tokenizer, shards, examples, a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.artifact import Model, include
from storage.corpus import EXAMPLES_SCHEMA, Examples, table_of, write_table
from storage.shards import Shards, write_shard
from storage.tokenizer import Tokenizer

if TYPE_CHECKING:
    from model.config import ModelConfig
    from model.network.transformer import Transformer

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_tokenizer(
    folder: Path,
    extra: Sequence[str] = (),
    special: Sequence[str] = (),
    *,
    ends: str | None = None,
    longest: int | None = None,
) -> Tokenizer:
    """Four special tokens, then a token for every byte, then ``extra`` unused ones: loses nothing, learns nothing.

    ``special``: more special tokens, with the last ids. ``ends``: which of the first stand around a text
    (``<s> $A </s>``); ``longest``: the most tokens of one that ``transformers`` is to let pass without a warning.
    """
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Fast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *alphabet, *extra, *special])}
    fast = Fast(models.BPE(vocabulary, [], unk_token=None))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken(piece, special=True) for piece in (*SPECIAL, *special)])
    if ends is not None:
        around = [(piece, SPECIAL.index(piece)) for piece in ("<s>", "</s>")]
        fast.post_processor = processors.TemplateProcessing(single=ends, pair=None, special_tokens=around)
    folder.mkdir(parents=True, exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    most = {} if longest is None else {"model_max_length": longest}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names, **most}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.of_folder(folder)


def made_shards(folder: Path, tokenizer: Tokenizer, splits: Mapping[str, Sequence[str]]) -> Shards:
    """Shards of these texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in splits.items():
        tokens = [np.array([tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]) for text in texts]
        ids = [f"{split}{number}" for number in range(len(texts))]
        write_shard(folder / f"{split}-00000.arrow", ids, tokens, [len(text.encode()) for text in texts], "uint16")
    include(folder, "tokenizer", tokenizer)
    return Shards.of_folder(folder)


def made_examples(folder: Path, splits: Mapping[str, Sequence[tuple[str, str]]]) -> Examples:
    """Examples of these prompts and responses."""
    for split, pairs in splits.items():
        rows = [
            {"id": f"{split}{n:04}", "document_id": f"{split}{n:04}", "prompt": p, "response": r, "source": "made"}
            for n, (p, r) in enumerate(pairs)
        ]
        write_table(table_of(rows, EXAMPLES_SCHEMA), folder / f"{split}.parquet")
    return Examples.of_folder(folder)


def made_network(shape: ModelConfig, vocabulary: int, seed: int = 1) -> Transformer:
    """A network of random weights."""
    from model.network.transformer import Transformer

    network = Transformer(shape, vocabulary)
    network.initialise(seed)
    return network.eval()


def made_model(folder: Path, network: Transformer, tokenizer: Tokenizer) -> Model:
    """The model folder of a network."""
    from model.formats import huggingface

    huggingface.write(folder, network.shape, network.vocabulary, network.state_dict(), bos=1, eos=2, pad=3)
    include(folder, ".", tokenizer)
    return Model.of_folder(folder)


def successor_pairs(count: int, seed: int = 0, length: int = 6) -> list[tuple[str, str]]:
    """Prompts of letters, and as responses the letters that follow each in the alphabet: quickly learnt."""
    rng = np.random.default_rng(seed)
    prompts = ["".join(rng.choice(list(LETTERS[:8]), length)) for _ in range(count)]
    return [(f"{prompt}>", "".join(LETTERS[LETTERS.index(c) + 1] for c in prompt)) for prompt in prompts]
