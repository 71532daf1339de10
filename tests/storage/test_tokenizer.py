"""Tokenizers from folders that others made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from storage.errors import SourceError
from storage.tokenizer import Tokenizer


def _byte_level(folder: Path, names: dict[str, object]) -> Path:
    """A tokenizer like GPT-2's, with a few merges and special tokens."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, "he", "ll"])}
    fast = Fast(models.BPE(vocabulary, [("h", "e"), ("l", "l")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|begin|>", "<|end|>"])
    begin = fast.token_to_id("<|begin|>")
    fast.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    fast.enable_truncation(4)
    fast.enable_padding()
    folder.mkdir(exist_ok=True)
    fast.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


def test_any_hugging_face_tokenizer_opens(tmp_path: Path) -> None:
    names = {"eos_token": {"content": "<|end|>", "special": True}, "bos_token": "<|begin|>"}
    tokenizer = Tokenizer.of_folder(_byte_level(tmp_path / "gpt", names))
    ids = tokenizer.encode("hello 你好")
    assert ids.dtype == np.int32
    assert len(ids) == len(b"hello") - 2 + 1 + len("你好".encode())
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == "hello 你好"
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (260, 258, 259, 259)
    assert tokenizer.decode(tokenizer.encode("a <|end|> b")) == "a <|end|> b"
    assert tokenizer.eos_id not in tokenizer.encode("a <|end|> b")


def test_a_tokenizer_without_a_beginning_token_begins_with_the_end_token(tmp_path: Path) -> None:
    tokenizer = Tokenizer.of_folder(_byte_level(tmp_path / "gpt", {"eos_token": "<|end|>"}))
    assert tokenizer.bos_id == tokenizer.eos_id == tokenizer.pad_id == 259


def test_what_is_no_tokenizer_is_said_in_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text("{}")
    false = tmp_path / "false"
    false.mkdir()
    (false / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    cases = {empty: "neither", broken: "cannot be read", false: "no SentencePiece model"}
    cases[_byte_level(tmp_path / "endless", {})] = "names no eos_token"
    for folder, said in cases.items():
        with pytest.raises(SourceError, match=said) as caught:
            Tokenizer.of_folder(folder).encode("x")
        assert "\n" not in str(caught.value)


def test_a_sentencepiece_model_with_the_usual_settings_gives_its_own_ids(tmp_path: Path) -> None:
    """Llama 2's way: a space put before the text, spaces collapsed or not; words are then not independent."""
    import sentencepiece

    words = ["the cat sat on the mat", "a dog and a cat", "你好 世界"] * 50
    for number, collapse in enumerate((True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words),
            model_prefix=str(folder / "tokenizer"),
            model_type="bpe",
            vocab_size=310,
            byte_fallback=True,
            remove_extra_whitespaces=collapse,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        tokenizer = Tokenizer.of_folder(folder)
        for text in ("the cat", " two  spaces\nand a line", "你好▁世界", ""):
            assert tokenizer.encode(text).tolist() == model.encode(text)
        assert tokenizer.pad_id == tokenizer.eos_id == model.eos_id()
