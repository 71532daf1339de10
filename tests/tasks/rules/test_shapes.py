"""Chunks cut by their shapes against chunks cut one by one."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.rules.exceptions import exceptions
from tasks.rules.hashes import Spelling, code_points_of
from tasks.rules.shapes import Shapes
from tasks.rules.words import LONGEST_CHUNK, UNITS, split_chunk

TOKENS = """foo Bar OsString HTML push_back x86_64 std 1234 123456 255 10 :// ... 's example org www http mailto
don't US don Dont сло́во слово Слово 𝒳"""
PIECES = [
    *"aAbBzZéÉßǅжЖ中あก0123456789²½٣_.,:;-–—~/@#$%+*^=<>()[]{}'\"’“”…°&?!\\|§€☃→😀",
    *TOKENS.split(),
    *UNITS.split("|"),
    *exceptions(),
]


def words_by_shape(chunks: list[str], shapes: Shapes) -> list[list[str]]:
    codes, bounds = code_points_of(chunks)
    starts, counts = shapes.split(codes, bounds, Spelling(codes))
    text, places = "".join(chunks), iter([*starts.tolist(), len(codes)])
    at, made = next(places), []
    for count in counts.tolist():
        ends = [next(places) for _ in range(count)]
        made.append([text[a:b] for a, b in zip([at, *ends], ends, strict=False)])
        at = ends[-1]
    return made


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join), min_size=1, max_size=12))
def test_chunks_are_cut_as_one_by_one(chunks: list[str]) -> None:
    chunks = [chunk for chunk in chunks if not any(map(str.isspace, chunk))] or ["a"]
    assert words_by_shape(chunks, Shapes()) == [list(split_chunk(chunk)) for chunk in chunks]


def test_what_one_chunk_taught_holds_for_all_of_its_shape() -> None:
    draw, shapes = random.Random(5), Shapes()
    pieces = [piece for piece in PIECES if not any(map(str.isspace, piece))]
    for _ in range(8):
        chunks = ["".join(draw.choices(pieces, k=draw.randrange(1, 6))) for _ in range(400)]
        assert words_by_shape(chunks, shapes) == [list(split_chunk(chunk)) for chunk in chunks]


def test_lengths_that_count() -> None:
    long = "b" * 40
    text = f"""1.22.333.255 1.22.3334.255 a.bc:1 a.bc:12 a.bc:12345 a.bc:123456 a.b a.bc h://a.bc/x {long}://a.bc/x
    {long}://a.bc-d/x {long}.com-d {long}{long}.com-d x.{long}{long}/a-b 10m² 10km a10km a_10km (a10km 10_km 10US$<"""
    chunks = [*text.split(), "a" * LONGEST_CHUNK + ",", "a" * (LONGEST_CHUNK - 1) + ","]
    assert words_by_shape(chunks, Shapes()) == [list(split_chunk(chunk)) for chunk in chunks]
