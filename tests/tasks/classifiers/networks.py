"""Tiny text classifiers in the form of ``transformers``, made by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["dough", "oven", "bake", "judge", "court", "appeal", "the", "to", "海", "船", "山", "花"]


def made_text_classifier(folder: Path, labels: tuple[str, ...], kind: str = "bert", **config: Any) -> Path:
    """Random weights, 32 tokens of context, words and Chinese characters as tokens."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForSequenceClassification

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece({w: n for n, w in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"} | (
        {"pad_token": "[PAD]"} if kind == "bert" else {}
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30, **names})
    )
    torch.manual_seed(1)
    shape = AutoConfig.for_model(
        kind,
        vocab_size=len(special) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=1.0,
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
        **config,
    )
    AutoModelForSequenceClassification.from_config(shape).save_pretrained(folder)
    return folder
