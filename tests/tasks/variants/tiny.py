"""Small networks of random weights with a byte tokenizer, as folders."""

from __future__ import annotations

import json
from pathlib import Path

from storage.artifact import Network
from tests.made import SPECIAL, made_tokenizer

CONTEXT = 40


def _tokenizer(folder: Path, ends: str) -> int:
    """A byte tokenizer that puts texts between special tokens (``<s> $A </s>``); returns the vocabulary's size."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import processors

    size = made_tokenizer(folder).vocab_size
    fast = Fast.from_file(str(folder / "tokenizer.json"))
    special = [(piece, SPECIAL.index(piece)) for piece in ("<s>", "</s>")]
    fast.post_processor = processors.TemplateProcessing(single=ends, pair=None, special_tokens=special)
    fast.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": CONTEXT}))
    return size


def tiny_translator(folder: Path, seed: int = 1) -> Network:
    import torch
    from transformers import MarianConfig, MarianMTModel

    size = _tokenizer(folder, "$A </s>")
    torch.manual_seed(seed)
    config = MarianConfig(
        vocab_size=size,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=CONTEXT,
        init_std=0.5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        decoder_start_token_id=3,
        forced_eos_token_id=None,
    )
    MarianMTModel(config).save_pretrained(folder)
    return Network.of_folder(folder)


def tiny_encoder(folder: Path, seed: int = 1) -> Network:
    import torch
    from transformers import BertConfig, BertModel

    size = _tokenizer(folder, "<s> $A </s>")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=CONTEXT,
        initializer_range=0.5,
        pad_token_id=3,
    )
    BertModel(config).save_pretrained(folder)
    return Network.of_folder(folder)
