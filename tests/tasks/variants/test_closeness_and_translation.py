"""Closeness and translation equal what transformers gives, asked for plainly, text by text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from storage.errors import SourceError
from tasks.variants.closeness import Embedded, Encoder, bertscore_f1, embedding_similarity
from tasks.variants.pieces import pieces_of
from tasks.variants.translation import Translator
from tests.tasks.variants.tiny import CONTEXT, tiny_encoder, tiny_translator

TEXT = "The furnace keeps an even heat.  Salt goes in, and mercury; gold never comes!\n\n炉火不熄。丹成。"
OTHER = "The oven keeps an even heat. Salt and mercury go in."


def _plain_vectors(folder: Path, text: str) -> list[tuple[np.ndarray, bool]]:
    """Each token's vector and whether it is special, window by window."""
    import torch
    from transformers import AutoTokenizer, BertModel

    network, tokenizer = BertModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = []
    for start in range(0, max(1, len(tokens)), CONTEXT - 2):
        window = [1, *tokens[start : start + CONTEXT - 2], 2]
        with torch.no_grad():
            states = network(input_ids=torch.tensor([window])).last_hidden_state[0].numpy()
        found += [(state, token in (1, 2)) for state, token in zip(states, window, strict=True)]
    return found


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_closeness_equals_plain_loops(tmp_path: Path) -> None:
    tiny_encoder(tmp_path)
    encoder = Encoder.load(tmp_path, "cpu")
    first, second = encoder.embedded(TEXT), encoder.embedded(OTHER)
    plain_first, plain_second = _plain_vectors(tmp_path, TEXT), _plain_vectors(tmp_path, OTHER)
    assert len(plain_first) > 2 * CONTEXT
    means = [np.mean([vector for vector, _ in plain], axis=0) for plain in (plain_first, plain_second)]
    assert encoder.closeness("embedding", first, second) == pytest.approx(_cosine(*means), abs=1e-5)
    a, b = ([vector for vector, special in plain if not special] for plain in (plain_first, plain_second))
    precision = sum(max(_cosine(x, y) for y in b) for x in a) / len(a)
    recall = sum(max(_cosine(x, y) for x in a) for y in b) / len(b)
    f1 = 2 * precision * recall / (precision + recall)
    assert encoder.closeness("bertscore", first, second) == pytest.approx(f1, abs=1e-5)
    for measure in ("embedding", "bertscore"):
        assert encoder.closeness(measure, first, encoder.embedded(TEXT)) == pytest.approx(1)  # type: ignore[arg-type]
    assert 0 < f1 < 0.999


def test_texts_without_tokens_are_close_to_nothing() -> None:
    empty = Embedded(np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))
    only_special = Embedded(np.ones((2, 4), np.float32), np.ones(2, np.bool_))
    some = Embedded(np.ones((2, 4), np.float32), np.zeros(2, np.bool_))
    assert embedding_similarity(empty, some) == 0
    assert bertscore_f1(only_special, some) == bertscore_f1(some, empty) == 0


@pytest.mark.parametrize("beams", [1, 3])
def test_translation_equals_sentence_by_sentence(tmp_path: Path, beams: int) -> None:
    import torch
    from transformers import AutoTokenizer, MarianMTModel

    tiny_translator(tmp_path)
    translated = Translator.load(tmp_path, "cpu", beams, "to gold: ").translated(TEXT)
    network, tokenizer = MarianMTModel.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    expected = ""
    for piece in pieces_of(TEXT, lambda part: len(tokenizer("to gold: " + part)["input_ids"]) <= CONTEXT):
        ids = tokenizer("to gold: " + piece.text)["input_ids"]
        assert len(ids) <= CONTEXT
        with torch.no_grad():
            # The longest that any sentence of the batch may become is a bound for all of them.
            made = network.generate(torch.tensor([ids]), num_beams=beams, do_sample=False, max_new_tokens=CONTEXT - 1)
        expected += piece.with_text(tokenizer.decode(made[0], skip_special_tokens=True).strip() if piece.text else "")
    assert translated == expected
    assert translated.count("\n\n") == 1
    assert translated != TEXT


def test_a_folder_that_cannot_be_opened_is_an_error_in_one_line(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder")
    with pytest.raises(SourceError, match="cannot open it as a translator") as caught:
        Translator.load(tmp_path / "encoder", "cpu", 1, "")
    assert "\n" not in str(caught.value)
    (tmp_path / "encoder" / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="cannot open it as an encoder"):
        Encoder.load(tmp_path / "encoder", "cpu")
