"""No text is cut within a piece that it holds, nor anywhere but where that is so."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.bpe.cuts import Cuts, padded

_LETTERS = "ab =\n\0éß明月光，字😀🇨Ж\u3000𝒳"
_PIECE = st.text(st.sampled_from(_LETTERS), min_size=1, max_size=5)
_TEXT = st.text(st.sampled_from(_LETTERS), min_size=1, max_size=30)


def _segments(cuts: Cuts, text: str, size: int | None = None, stops: tuple[int, ...] = ()) -> list[str]:
    data = text.encode()
    size = len(data) if size is None else size
    around = padded(np.frombuffer(data, np.uint8), 0, size)
    ends = cuts.ends(around, size, np.array([*stops, size], np.int64)).tolist()
    return [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECE, max_size=12), st.lists(_PIECE, max_size=12).map("".join) | _TEXT)
@example(["明月", "aé", "é明", "😀a"], "明月光aé明月é😀ab")
def test_neighbours_stay_together_if_a_piece_holds_them(pieces: list[str], text: str) -> None:
    pairs = {piece[at : at + 2] for piece in pieces for at in range(len(piece) - 1)}
    segments = _segments(Cuts.of(pieces), text) if text else []
    assert "".join(segments) == text
    places = {sum(map(len, segments[:number])) for number in range(1, len(segments))}
    for place in range(1, len(text)):
        if text[place - 1 : place + 1] in pairs:
            assert place not in places
        elif text[place - 1 : place + 1].isascii():
            assert place in places


def test_characters_that_no_piece_joins_are_cut_nearly_always() -> None:
    """The table of pairs may take a few for joined by chance, no more."""
    characters = [chr(0x4E00 + number) for number in range(2000)]
    pieces = [characters[number] + characters[number + 1] for number in range(0, 2000, 2)]
    text = "".join(characters)
    segments = _segments(Cuts.of(pieces), text)
    assert 900 <= len(segments) <= 1000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", " ", "  ", " " * 5, " " * 9, "月", "\n"]), min_size=1, max_size=12).map("".join))
@example(" " * 9 + "a")
@example("a" + " " * 8 + "月")
def test_a_run_of_spaces_that_is_symbols_to_its_end_is_cut_off(text: str) -> None:
    pieces = [*(" " * length for length in range(2, 9)), " a", "aa", " 月", "\n\n"]
    segments = _segments(Cuts.of(pieces, longest_run=8), text)
    assert "".join(segments) == text
    for segment in segments:
        run = len(segment) - len(segment.lstrip(" "))
        # A space that is left over of a run begins the word.
        assert run <= 1 or run == len(segment) or run % 8 == 1


def test_runs_end_with_their_text() -> None:
    cuts = Cuts.of([*(" " * length for length in range(2, 9)), " a"], longest_run=8)
    assert _segments(cuts, "a  a", stops=(2,)) == ["a", " ", " a"]
    assert _segments(cuts, "a   a", stops=(2,)) == ["a", " ", "  ", "a"]
    assert _segments(cuts, " " * 9, stops=(1,)) == [" ", " " * 8]
