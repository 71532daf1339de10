"""Where words begin, in the vocabularies of several kinds of tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.words import Words


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ("▁The ▁fur nace , ▁it 's", ["▁The", "▁furnace", ",", "▁it", "'", "s"]),
        ("我们 用 Py Torch 训练 模型 。", ["我们", "用", "PyTorch", "训练", "模型", "。"]),
        (
            "▁ 我们 ▁ qu x ▁ten sor s <0xE7> <0x82> <0xBC> 炉",
            ["▁", "我们", "▁qux", "▁tensors", "<0xE7><0x82><0xBC>", "炉"],
        ),
        ("ĠThe Ġfur nace Ċ de f ĠæĪĳ ä» ¬", ["ĠThe", "Ġfurnace", "Ċ", "def", "ĠæĪĳ", "ä»¬"]),
        ("the fur ##nace ##s 炉 火 ! it", ["the", "fur##nace##s", "炉", "火", "!", "it"]),
        ("с лово ▁मैं ने ไทย <0x41> <0xC3> <0xA9> t", ["слово", "▁मैंने", "ไทย", "<0x41><0xC3><0xA9>t"]),
    ],
)
def test_words(pieces: str, words: list[str]) -> None:
    split = pieces.replace("'s", "' s").split()
    vocabulary = sorted(set(split))
    tokens = np.array([[vocabulary.index(piece) for piece in split]])
    starts = Words.of(vocabulary, []).starts(tokens, np.zeros_like(tokens))[0]
    made: list[str] = []
    for piece, start in zip(split, starts, strict=True):
        made = [*made, piece] if start else [*made[:-1], made[-1] + piece]
    assert made == words


def test_no_word_reaches_across_documents_or_special_tokens() -> None:
    vocabulary = ["</s>", "a", "b"]
    starts = Words.of(vocabulary, [0]).starts(np.array([[1, 2, 1, 0, 2]]), np.array([[0, 0, 1, 1, 1]]))
    assert starts.tolist() == [[True, False, True, True, True]]
