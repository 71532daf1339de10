"""Small networks of random weights with a byte tokenizer, as folders."""

from __future__ import annotations

from pathlib import Path

from storage.artifact import Network
from tests.made import made_tokenizer

CONTEXT = 40


def tiny_translator(folder: Path, seed: int = 1) -> Network:
    import torch
    from transformers import MarianConfig, MarianMTModel

    size = made_tokenizer(folder, ends="$A </s>", longest=CONTEXT).vocab_size
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

    size = made_tokenizer(folder, ends="<s> $A </s>", longest=CONTEXT).vocab_size
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
