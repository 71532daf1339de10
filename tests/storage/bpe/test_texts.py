"""A model that works in columns gives SentencePiece's own ids, whatever the model and the text."""

from __future__ import annotations

import importlib.util
import io
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import storage.bpe.encoder as encoder
import storage.bpe.known as known
from storage.bpe.texts import TextEncoder, column_of
from tests.helpers import SHARED

MARK = "▁"
WORDS = (
    "the cat  sat on the mat; a   dog and a cat\n\tif x == 12: return foo.bar(x)\n\n    pass  aaaa abab haha ==== "
    "你好 世界，床前明月光，疑是地上霜。明月明月光 ééé naïve 👩‍👩‍👧‍👦🇨🇳 Straße 東京 ひらがな 가나다"
)


def _model(**changed: Any) -> bytes:
    """A small model trained on words; ``changed``: the trainer's settings that are not Llama's."""
    from sentencepiece import SentencePieceTrainer

    rng = random.Random(0)
    words = WORDS.split(" ")
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(300)]
    usual = {
        "model_type": "bpe",
        "vocab_size": 480,
        "character_coverage": 1.0,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
        "num_threads": 1,
    }
    made = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=made, **(usual | changed))
    return made.getvalue()


_RUNS = [MARK * length for length in range(2, 9)]
MODELS: dict[str, dict[str, Any]] = {
    "as we train them": {"add_dummy_prefix": False, "user_defined_symbols": [*_RUNS, "\n", "\n\n", "\t"]},
    "as Llama's": {"split_digits": True},
    "without a space before, runs are pieces": {"add_dummy_prefix": False, "allow_whitespace_only_pieces": True},
    "pieces that reach across spaces": {"add_dummy_prefix": False, "split_by_whitespace": False},
    "across scripts too, with a space before": {"split_by_whitespace": False, "split_by_unicode_script": False},
    "symbols in the middle of words": {"user_defined_symbols": ["at", "明月", f"a{MARK}c", "==", f"{MARK * 3}"]},
    "one run of spaces is a symbol": {"add_dummy_prefix": False, "user_defined_symbols": [MARK * 4]},
}
NOT_IN_COLUMNS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "vocab_size": 340},
    "words": {"model_type": "word", "byte_fallback": False, "vocab_size": 30, "hard_vocab_limit": False},
    "no bytes for unknown characters": {"byte_fallback": False, "vocab_size": 200},
    "spaces made one": {"remove_extra_whitespaces": True},
    "characters changed": {"normalization_rule_name": "nmt_nfkc"},
    "spaces behind the word": {"treat_whitespace_as_suffix": True},
}


@pytest.fixture(scope="module", params=list(MODELS))
def made(request: pytest.FixtureRequest) -> tuple[TextEncoder, Any]:
    from sentencepiece import SentencePieceProcessor

    content = _model(**MODELS[request.param])
    columns = TextEncoder.of(content)
    assert columns is not None
    assert columns.space_before == MODELS[request.param].get("add_dummy_prefix", True)
    return columns, SentencePieceProcessor(model_proto=content)


_PARTS = [*WORDS.split(" "), *"abct 12=;.\n\t", " ", "  ", " " * 7, " " * 9, " " * 17, MARK, "\0", "\x01", "\r\n", "é"]
_PARTS += [
    "一",
    "明月",
    "明",
    "光",
    "，",
    "１",
    "😀",
    "e\u0301",
    "\u3000",
    "\ufeff",
    "\u2028",
    "ﬁ",
    "<s>",
    "<0x41>",
    "x" * 40,
]
_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    st.lists(st.sampled_from(_PARTS), max_size=40).map("".join),
    st.tuples(st.sampled_from(["a", "ab", " ", "明月", "\n", "=", "x1"]), st.integers(0, 90)).map(
        lambda r: r[0] * r[1]
    ),
)


def _expected(columns: TextEncoder, model: Any, text: str) -> list[int]:
    """What the model says; where spaces are only spaces, a literal mark is written as its bytes."""
    if columns.space_before:
        return list(model.encode(text))
    mark = [model.piece_to_id(f"<0x{byte:02X}>") for byte in MARK.encode()]
    ids: list[int] = []
    for number, part in enumerate(text.split(MARK)):
        ids += (mark if number else []) + model.encode(part)
    return ids


def _check(columns: TextEncoder, model: Any, texts: list[str]) -> None:
    ids, offsets = columns.encode(column_of(texts))
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
    assert [ids[a:b].tolist() for a, b in pairwise(offsets.tolist())] == [
        _expected(columns, model, text) for text in texts
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(_TEXT, max_size=8))
@example(["", " ", "  ", "a ", " a", "", "\0\x01\x02", MARK, f"a{MARK}b{MARK}"])
@example(["x  ", "  y", " " * 8, " " * 9 + "z", " " * 17 + "z", "z" + " " * 16])
def test_ids_are_the_models_own(made: tuple[TextEncoder, Any], texts: list[str]) -> None:
    _check(*made, texts)


@settings(max_examples=40, deadline=None)
@given(st.lists(_TEXT, max_size=6), st.integers(1, 64))
def test_where_a_window_ends_does_not_matter(made: tuple[TextEncoder, Any], texts: list[str], window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_WINDOW_BYTES", window)
        _check(*made, texts)


@settings(max_examples=20, deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=6))
def test_a_full_table_starts_again(made: tuple[TextEncoder, Any], texts: list[str]) -> None:
    columns, model = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "_MOST_POOLED", 40)
        patch.setattr(encoder, "_WINDOW_BYTES", 16)
        _check(columns, model, texts * 3)


def test_many_different_segments(made: tuple[TextEncoder, Any]) -> None:
    """Enough for the table to grow several times, with long ones that come again."""
    rng = random.Random(1)
    letters = "abcdefghij明月光床前"
    words = ["".join(rng.choices(letters, k=rng.randrange(1, 24))) for _ in range(20_000)]
    texts = [" ".join(words[start : start + 500]) for start in range(0, len(words), 500)]
    _check(*made, texts + texts[:3])


@pytest.mark.parametrize("name", NOT_IN_COLUMNS)
def test_other_models_are_left_to_themselves(name: str) -> None:
    assert TextEncoder.of(_model(**NOT_IN_COLUMNS[name])) is None


def test_a_model_with_pieces_that_are_split_again_is_left_to_itself() -> None:
    formats = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="protobuf is not installed")
    model = formats.ModelProto.FromString(_model())
    model.pieces[-60].type = formats.ModelProto.SentencePiece.UNUSED
    assert TextEncoder.of(model.SerializeToString()) is None


@pytest.mark.parametrize("content", [b"\x0a\xff", b"\xff" * 20, b"\x0b", b"\x10\x01"])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        TextEncoder.of(content)


def test_a_control_character_beside_any_other_is_a_segment_of_its_own(made: tuple[TextEncoder, Any]) -> None:
    columns, model = made
    # Thousands of neighbours, so that some meet a chance hit in the table of characters that pieces join.
    texts = [f"{mark}{chr(code)}{mark}" for mark in "\1\2" for code in range(0x80, 0x3000, 3) if chr(code) != MARK]
    ids, _ = columns.encode(column_of(texts))
    assert ids.tolist() == [each for text in texts for each in model.encode(text)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12) | st.text(max_size=4).map(str.encode), max_size=4).map(b"".join))
@example(b"a\xff\xed\xa0\x80b\xe4\xbd")
@example(b"\xf4\x90\x80\x80\xc0\xaf\xe2\x96")
def test_invalid_utf8_is_read_as_sentencepiece_reads_bytes(made: tuple[TextEncoder, Any], content: bytes) -> None:
    columns, model = made
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, len(content)], np.int32)), pa.py_buffer(content)]
    )
    ids, _ = columns.encode(column_of(column))
    if MARK.encode() not in content:
        assert ids.tolist() == model.encode(content)


def test_a_lone_surrogate_is_three_bytes_of_no_character(made: tuple[TextEncoder, Any]) -> None:
    ids, offsets = made[0].encode(column_of(["a\ud800b", "c"]))
    expected, _ = made[0].encode(column_of(["a\ufffd\ufffd\ufffdb", "c"]))
    assert ids.tolist() == expected.tolist()
    assert offsets[-1] == len(ids)


def test_columns_of_every_form(made: tuple[TextEncoder, Any]) -> None:
    texts = ["你好 a", "", "cat", "the"]
    wanted = made[0].encode(column_of(texts))
    for column in (
        pa.array(texts),
        pa.array(texts, pa.string_view()),
        pa.array(["x", *texts, "y"]).slice(1, 4),
        pa.chunked_array([texts[:1], texts[1:]]),
        pa.array(texts).dictionary_encode(),
    ):
        got = made[0].encode(column_of(column))
        assert [part.tolist() for part in got] == [part.tolist() for part in wanted]


def _real_models() -> list[Path]:
    found = importlib.util.find_spec("mistral_common")
    places = found.submodule_search_locations if found else None
    return sorted(Path(places[0]).glob("data/*.model.v*")) if places else []


@pytest.mark.skipif(
    not _real_models(), reason="the package mistral-common, which carries real models, is not installed"
)
@pytest.mark.parametrize("path", _real_models(), ids=lambda path: path.name)
def test_real_models(path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    content = path.read_bytes()
    columns, model = TextEncoder.of(content), SentencePieceProcessor(model_proto=content)
    assert columns is not None
    texts = [Path(module.__file__ or "").read_text("utf-8") for module in (json, random, pytest, encoder)]
    texts += [WORDS, "".join(_PARTS), " " * 100, "\n" * 50, "", MARK, f"a{MARK} b", "[INST] <s> x [/INST]"]
    if SHARED.exists():
        texts.append((SHARED / "text/wagahaiwa_nekodearu.txt").read_text("utf-8")[:100_000])
    _check(columns, model, texts)
