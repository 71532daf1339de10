"""No text is cut within a piece that it holds, nor anywhere but where that is so."""

from __future__ import annotations

from itertools import pairwise

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


def _joined(text: str, pieces: list[str], symbols: list[str]) -> list[str]:
    """Byte-pair encoding written out; the earlier a piece stands in the list, the earlier it is joined."""
    parts, place = [], 0
    while place < len(text):
        symbol = max((each for each in symbols if text.startswith(each, place)), key=len, default="")
        parts.append(symbol or text[place])
        place += len(parts[-1])
    ranks = {piece: rank for rank, piece in reversed([*enumerate(pieces)]) if piece not in symbols}
    while True:
        pairs = [
            (ranks.get(left + right, len(pieces)), at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left not in symbols and right not in symbols
        ]
        rank, at = min(pairs, default=(len(pieces), 0))
        if rank == len(pieces):
            return parts
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


_FEW = st.text(st.sampled_from("abC_ 明"), min_size=1, max_size=4)


@settings(max_examples=600, deadline=None)
@given(
    st.lists(_FEW, min_size=1, max_size=30, unique=True),
    st.lists(_FEW.filter(lambda each: len(each) < 3), max_size=2, unique=True),
    st.text(st.sampled_from("abC_ 明"), min_size=1, max_size=30) | st.lists(_FEW, min_size=1, max_size=9).map("".join),
)
@example(["ab", "aC", "abaC"], [], "abaCabab")
@example(["bC", "bCa", "abCa"], ["ba"], "abCabaCabCabCa")
@example(["Ca", "abCa", "ab"], [], "aabCaCabCab")
@example(["ab"], ["baC"], "baCb")
def test_segments_are_joined_as_in_the_whole_text(pieces: list[str], symbols: list[str], text: str) -> None:
    segments = _segments(Cuts.of([*pieces, *symbols], symbols), text)
    assert "".join(segments) == text
    assert [part for each in segments for part in _joined(each, pieces, symbols)] == _joined(text, pieces, symbols)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECE, max_size=12), st.lists(_PIECE, max_size=12).map("".join) | _TEXT)
@example(["明月", "aé", "é明", "😀a"], "明月光aé明月é😀ab")
def test_neighbours_stay_together_only_if_a_piece_holds_them(pieces: list[str], text: str) -> None:
    pairs = {piece[at : at + 2] for piece in pieces for at in range(len(piece) - 1)}
    segments = _segments(Cuts.of(pieces), text) if text else []
    assert "".join(segments) == text
    places = {sum(map(len, segments[:number])) for number in range(1, len(segments))}
    for place in range(1, len(text)):
        pair = text[place - 1 : place + 1]
        if pair in pieces or (pair in pairs and not pair.isascii()):
            assert place not in places
        elif pair not in pairs and pair.isascii():
            assert place in places


def test_a_place_in_a_piece_is_cut_where_no_join_of_two_symbols_agrees() -> None:
    cuts = Cuts.of(["geM", "ge", "ak", "ake", "Make", "Ma", "ke", "bgeMake"])
    assert _segments(cuts, "geMake") == ["geMake"]
    assert _segments(cuts, "ageMa") == ["a", "geMa"]
    # What joins across "eM" ends with "ge" before it.
    assert _segments(cuts, "ueMa") == ["u", "e", "Ma"]


def test_what_is_behind_the_last_byte_at_hand_is_seen() -> None:
    cuts = Cuts.of(["ab", "abC", "Ca", "bCa"])
    assert _segments(cuts, "bC") == ["b", "C"]
    assert _segments(cuts, "abC") == ["abC"]
    assert _segments(cuts, "bCa") == ["bCa"]
    assert _segments(cuts, "bCb") == ["b", "C", "b"]
    data = np.frombuffer(b"aabCa", np.uint8)
    for place, size, ends in ((2, 1, []), (1, 2, []), (1, 1, []), (0, 2, [1])):
        found = cuts.ends(padded(data, place, size), size, np.empty(0, np.int64))
        assert found.tolist() == ends


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
    runs = [" " * length for length in range(2, 9)]
    segments = _segments(Cuts.of([*runs, " a", "aa", " 月", "\n\n"], runs, longest_run=8), text)
    assert "".join(segments) == text
    for segment in segments:
        run = len(segment) - len(segment.lstrip(" "))
        # A space that is left over of a run begins the word.
        assert run <= 1 or run == len(segment) or run % 8 == 1


def test_runs_end_with_their_text() -> None:
    runs = [" " * length for length in range(2, 9)]
    cuts = Cuts.of([*runs, " a"], runs, longest_run=8)
    assert _segments(cuts, "a  a", stops=(2,)) == ["a", " ", " a"]
    assert _segments(cuts, "a   a", stops=(2,)) == ["a", " ", "  ", "a"]
    assert _segments(cuts, " " * 9, stops=(1,)) == [" ", " " * 8]
