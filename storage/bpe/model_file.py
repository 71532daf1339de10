"""What a SentencePiece model file says about itself, as far as the library does not tell.

The file is one message of protocol buffers; field numbers are those of ``sentencepiece_model.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_BPE = 2
"""``TrainerSpec.ModelType``."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types."""
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
"""Fields of the model."""
_TEXT, _KIND = 1, 3
"""Fields of a piece."""
_TEXT_MARK, _SCORE_MARK = _TEXT << 3 | _BYTES, 2 << 3 | _FIXED32
"""How a piece's text and its score begin."""
_SCORE_BYTES = 5
_NORMAL, _UNKNOWN, _CONTROL, _DEFINED, _UNUSED, _BYTE = range(1, 7)
"""Kinds of pieces."""
_MODEL_TYPE, _SPACE_BEHIND, _BYTE_FALLBACK = 3, 24, 35
"""Fields of the trainer's settings."""
_CHARACTER_MAP, _SPACE_BEFORE, _COLLAPSES_SPACES, _MARKS_SPACES = 2, 3, 4, 5
"""Fields of the normaliser's settings."""


@dataclass(frozen=True)
class ModelFile:
    """The settings of a model that decide how a text is read."""

    is_bpe: bool
    byte_fallback: bool
    """A character without a piece is written as its bytes."""
    keeps_characters: bool
    """No character is changed or dropped, and a space is written as the mark, before the word it begins."""
    space_before: bool
    """A space is put before every text that is not empty."""
    pieces: list[str]
    """By id, with SentencePiece's mark for a space."""
    kinds: list[int]

    @property
    def usual(self) -> list[str]:
        """The pieces that texts are made of, bytes apart."""
        rare = (_UNKNOWN, _CONTROL, _BYTE)
        return [piece for piece, kind in zip(self.pieces, self.kinds, strict=True) if kind not in rare]

    @property
    def special(self) -> list[int]:
        """Ids that no text is encoded to."""
        return [number for number, kind in enumerate(self.kinds) if kind in (_UNKNOWN, _CONTROL)]

    @property
    def defined(self) -> list[str]:
        """The symbols that users defined."""
        return [piece for piece, kind in zip(self.pieces, self.kinds, strict=True) if kind == _DEFINED]

    @property
    def has_unused(self) -> bool:
        """Whether some pieces are made, but split again: how depends on the whole text."""
        return _UNUSED in self.kinds

    @classmethod
    def parse(cls, content: bytes) -> ModelFile:
        """Raises ValueError for what is no model."""
        settings: dict[int, dict[int, int | bytes]] = {_TRAINER: {}, _NORMALIZER: {}}
        pieces, kinds = [], []
        for number, value in _fields(content):
            if number in settings:
                settings[number].update(_fields(_message(value)))
            elif number == _PIECES:
                piece, kind = _piece(_message(value))
                pieces.append(piece)
                kinds.append(kind)
        trainer, normalizer = settings[_TRAINER], settings[_NORMALIZER]
        return cls(
            is_bpe=trainer.get(_MODEL_TYPE, 1) == _BPE,
            byte_fallback=bool(trainer.get(_BYTE_FALLBACK, 0)),
            keeps_characters=not normalizer.get(_CHARACTER_MAP)
            and not normalizer.get(_COLLAPSES_SPACES, 1)
            and bool(normalizer.get(_MARKS_SPACES, 1))
            and not trainer.get(_SPACE_BEHIND, 0),
            space_before=bool(normalizer.get(_SPACE_BEFORE, 1)),
            pieces=pieces,
            kinds=kinds,
        )


def without_space_before(content: bytes) -> bytes:
    """The same model, but that it puts no space before a text.

    A message that comes twice is merged with the first by every reader of protocol buffers.
    """
    setting = bytes([_SPACE_BEFORE << 3 | _VARINT, 0])
    return content + bytes([_NORMALIZER << 3 | _BYTES, len(setting)]) + setting


def _piece(message: bytes) -> tuple[str, int]:
    """A piece and its kind."""
    # Nearly all have a short text and a score, and are of the usual kind, which is not written down.
    if len(message) > 1 and message[0] == _TEXT_MARK and message[1] < 0x80:
        behind = 2 + message[1]
        if len(message) == behind + _SCORE_BYTES and message[behind] == _SCORE_MARK:
            return message[2:behind].decode(), _NORMAL
    fields = dict(_fields(message))
    return _message(fields.get(_TEXT, b"")).decode(), int(fields.get(_KIND, _NORMAL))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a number stands where a text or a message should")


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a message."""
    place, end = 0, len(content)
    while place < end:
        key = content[place]
        place += 1
        if key >= 0x80:
            key, place = _varint(content, place - 1)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(content, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(content, place)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {place}")
        if place + size > end:
            raise ValueError(f"field {number} ends behind the file")
        yield number, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it."""
    value = shift = 0
    while True:
        if place >= len(content) or shift > 63:
            raise ValueError(f"a number without an end at byte {place}")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
