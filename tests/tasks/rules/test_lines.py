"""Places of lines and chunks in the bytes of texts, against Python's own splitting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.rules.content import Content
from tasks.rules.hashes import Table

TEXTS = st.lists(st.text(st.sampled_from("ab.。\n\t \x1c\x85\u00a0\u2003\u2028\u3000é中😀"), max_size=30), max_size=6)


@settings(deadline=None)
@given(TEXTS)
def test_lines_and_chunks_are_those_of_python(texts: list[str]) -> None:
    content = Content(texts)
    lines = content.lines
    expected = [line for text in texts for line in text.split("\n")]
    everything = np.arange(len(lines))
    assert lines.strings(everything) == expected
    assert lines.stripped.strings(everything) == [line.strip() for line in expected]
    assert lines.counts.tolist() == [text.count("\n") + 1 for text in texts]
    assert lines.lengths.tolist() == [len(line) for line in expected]
    assert lines.end_with(".", "。", "..").tolist() == [line.endswith((".", "。")) for line in expected]
    assert content.strings(*content.chunks) == [chunk for text in texts for chunk in text.split()]
    seen: list[set[str]] = [set() for _ in texts]
    for line, document, repeated in zip(expected, lines.documents.tolist(), lines.repeated.tolist(), strict=True):
        assert repeated == (line in seen[document])
        seen[document].add(line)


@given(st.lists(st.integers(0, 2**64 - 1).map(lambda n: n % 50 if n % 2 else n), unique=True))
def test_table_finds_what_was_put_in(codes: list[int]) -> None:
    table, known = Table(), np.array([code or 2 for code in codes], dtype=np.uint64)
    known = np.unique(known)
    table.add(known, np.arange(len(known), dtype=np.int32))
    assert table.find(known).tolist() == list(range(len(known)))
    assert table.find(np.array([51], dtype=np.uint64)).tolist() == [-1] or 51 in known


def test_table_grows() -> None:
    table, codes = Table(), np.random.default_rng(1).integers(1, 2**63, 60_000).astype(np.uint64)
    codes = np.unique(codes)
    for part in np.array_split(np.arange(len(codes), dtype=np.int32), 7):
        table.add(codes[part], part)
    assert table.find(codes).tolist() == list(range(len(codes)))
