"""Words counted in columns, beside a regular expression."""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.vocabulary import words
from tasks.vocabulary.words import WordCounts

_BOUNDARIES = "\n\t\0▁▅"
_WORD = re.compile(f" *[^ {_BOUNDARIES}]+| +")
_TEXTS = st.lists(st.text(st.sampled_from(f"ab水é𠀀 {_BOUNDARIES}"), max_size=60))


@given(st.lists(_TEXTS, max_size=4), st.sampled_from([0, 40, 10_000]))
def test_counts_are_those_of_a_regular_expression(tables: list[list[str]], together: int) -> None:
    counts = WordCounts(_BOUNDARIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "_COUNTED_BYTES", together)
        for texts in tables:
            counts.add(pa.chunked_array([texts], pa.string()))
        found = dict(counts.items())
    assert found == Counter(word for texts in tables for text in texts for word in _WORD.findall(text))
