"""Where a text can be cut without changing its ids.

Byte-pair encoding joins neighbours whenever their union is a piece. Where no piece of the vocabulary
holds the characters on both sides of a place next to each other, nothing is ever joined across it;
so the joins on one side cannot depend on the other, and their order there is the same: by score,
then from the left. The same holds for symbols that users define, which are found from the left, the
longest first, before anything is joined, and are pieces too.

Where an upper-case letter follows a lower-case one, as in names of code, more is looked at. The first
join across a place is of two symbols that end and begin there, each a single character or a piece, and
their union is a piece. So a text is cut there unless the two bytes on each side agree with a piece that
parts so: half of such places in code are cut. (Between other letters hardly one in thirty would be.)

Symbols of users are never joined with anything. Where runs of spaces are symbols, a text is therefore
also cut between such a run and the word behind it, so that a word is one segment at any indentation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BEFORE, _BEHIND = 8, 24
"""Zero bytes that ``padded`` puts around a text, so that 8 bytes can be read from any place near it."""
_AHEAD = 4
"""Of the text that follows so many bytes are seen: the character behind the last byte."""

_JOINS, _CUTS, _ASKS, _ASKS_AROUND = 0, 1, 2, 8
"""Of two bytes: within a character or a piece; a place to cut; from here on the characters have to be looked at, at
last those of ASCII with the bytes around them."""
_LEFT_MASKS = (0xFF00, 0xFFFF)
"""Of a word of 8 bytes, what belongs to the character that ends with byte 1: ASCII or not (of it the last two)."""
_RIGHT_MASKS = (0xFF_0000, 0xFFFF_0000, 0xFF_FFFF_0000)
"""What belongs to the character that begins with byte 2: of 1, 2, 3 bytes or more (of it the first three)."""
_AROUND_MASKS = (np.uint64(0xFFFF_FF00), np.uint64(0xFF_FFFF), np.uint64(0xFFFF_FFFF))
"""Of bytes 1 and 2 and those around them, what is of two symbols: one of one byte, the other, or neither."""
_MASKS = np.array(
    [0, 0, *(left | right for left in _LEFT_MASKS for right in _RIGHT_MASKS), _AROUND_MASKS[0]], np.uint64
)
"""By what the table says of two bytes."""
_SPACE = ord(" ")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LEAST_BITS, _MOST_BITS = 12, 22


def padded(data: npt.NDArray[np.uint8], place: int, size: int) -> npt.NDArray[np.uint8]:
    """The bytes from ``place``, with what is needed around them; the first is at ``BEFORE``."""
    around = np.zeros(BEFORE + size + _BEHIND, np.uint8)
    seen = data[place : place + size + _AHEAD]
    around[BEFORE : BEFORE + len(seen)] = seen
    return around


def words_at(around: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The 8 bytes from every place of the padded bytes as numbers, the first byte lowest: a view, not aligned."""
    return np.ndarray((len(around) - 7,), "<u8", around, 0, (1,))


@dataclass(frozen=True)
class Cuts:
    """Which characters some piece holds side by side."""

    bytes_table: npt.NDArray[np.uint8]
    """Of two bytes, the first the lower: exact for ASCII, but where the bytes around them are asked for."""
    characters_table: npt.NDArray[np.bool_]
    """By the hash of two characters, or of bytes of ASCII with those around them: whether some piece may join them.
    Chance hits only leave a place uncut."""
    longest_run: int
    """Runs of 2 to so many spaces are symbols, and no other symbol holds a space; 0 where that is not so."""

    @classmethod
    def of(cls, pieces: Collection[str], symbols: Collection[str] = (), longest_run: int = 0) -> Cuts:
        """The table of a vocabulary; pieces with plain spaces, and those of them that users defined as symbols."""
        pairs = {piece[at : at + 2] for piece in pieces for at in range(len(piece) - 1)}
        second, first = np.divmod(np.arange(1 << 16), 256)
        table = _ASKS + 3 * (first >= 0x80) + (second >= 0xC0) + (second >= 0xE0)
        table[(first < 0x80) & (second < 0x80)] = _CUTS
        table[(second >= 0x80) & (second < 0xC0)] = _JOINS
        for pair in filter(str.isascii, pairs):
            table[ord(pair[1]) << 8 | ord(pair[0])] = _JOINS
        humps = {pair for pair in pairs if pair.isascii() and pair[0].islower() and pair[1].isupper()}
        humps -= {*pieces, *(symbol[at : at + 2] for symbol in symbols for at in range(len(symbol) - 1))}
        for pair in humps:
            table[ord(pair[1]) << 8 | ord(pair[0])] = _ASKS_AROUND
        wide = [(pair[0].encode(), pair[1].encode()) for pair in pairs if not pair.isascii()]
        # No chance hits for ASCII that no piece holds beside other characters: what separates segments is one.
        for code in {*range(0x80)} - {ord(left) for left, _ in wide if len(left) == 1}:
            table[(second >= 0xC0) & (first == code)] = _CUTS
        for code in {*range(0x80)} - {ord(right) for _, right in wide if len(right) == 1}:
            table[(second == code) & (first >= 0x80)] = _CUTS
        wide += _joined_across(humps, {*pieces} - {*symbols})
        bits = min(max((32 * len(wide)).bit_length(), _LEAST_BITS), _MOST_BITS)
        found = np.zeros(1 << bits, bool)
        # Laid out as ``ends`` sees them in a text: the first character ends with byte 1.
        laid = b"".join(left[-2:].rjust(2, b"\0") + right.ljust(6, b"\0") for left, right in wide)
        codes = table[[right[0] << 8 | left[-1] for left, right in wide]]
        masks = _MASKS[codes]
        masks[codes == _ASKS_AROUND] = _AROUND_MASKS[-1]
        found[_hashed(np.frombuffer(laid, "<u8") & masks, bits)] = True
        return cls(table.astype(np.uint8), found, longest_run)

    def ends(self, around: npt.NDArray[np.uint8], size: int, stops: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where segments end in ``size`` bytes of valid UTF-8, padded; ``stops``: where texts end."""
        couples = np.ndarray((size,), "<u2", around, BEFORE, (1,))
        found: npt.NDArray[np.uint8] = self.bytes_table.take(couples, mode="clip")
        asked = np.flatnonzero(found >= _ASKS)
        if asked.size:
            characters, codes = words_at(around)[asked + (BEFORE - 1)], found[asked]
            parted = ~self._joined(characters & _MASKS.take(codes, mode="clip"))
            around_too = codes == _ASKS_AROUND
            for mask in _AROUND_MASKS[1:]:
                left = np.flatnonzero(parted & around_too)
                parted[left] = ~self._joined(characters[left] & mask)
            found[asked] = parted
        cut = found.view(np.bool_)
        if self.longest_run:
            cut[self._runs(around, size, stops)] = True
        cut[stops - 1] = True
        ends = np.flatnonzero(cut)
        ends += 1
        return ends

    def _joined(self, characters: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        hashes = _hashed(characters, len(self.characters_table).bit_length() - 1)
        joined: npt.NDArray[np.bool_] = self.characters_table.take(hashes, mode="clip")
        return joined

    def _runs(self, around: npt.NDArray[np.uint8], size: int, stops: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The last places of runs of spaces that are symbols to their end."""
        is_space = around[BEFORE - 1 : BEFORE + size + 1] == _SPACE
        # Whether a place's character and the one before it are spaces of one text.
        doubled = is_space[1:] & is_space[:-1]
        doubled[stops] = False
        first, last = np.flatnonzero(doubled[1:] > doubled[:-1]), np.flatnonzero(doubled[:-1] > doubled[1:])
        # A run that goes on behind these bytes has no last place among them.
        lengths = last - first[: len(last)] + 1
        symbols: npt.NDArray[np.int64] = last[lengths % self.longest_run != 1]
        return symbols


def _joined_across(humps: set[str], made: set[str]) -> set[tuple[bytes, bytes]]:
    """Of pieces made of two symbols that meet at such characters: the last two bytes of one, the first of the other."""
    parts = made | {character for piece in made for character in piece}
    return {
        (piece[:at].encode()[-2:], piece[at:].encode()[:2])
        for piece in made
        for at in range(1, len(piece))
        if piece[at - 1 : at + 1] in humps and piece[:at] in parts and piece[at:] in parts
    }


def _hashed(characters: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.int64]:
    mixed = characters * _MIX
    mixed >>= np.uint64(64 - bits)
    places: npt.NDArray[np.int64] = mixed.view(np.int64)
    return places
