"""Texts as a column of valid UTF-8, and a SentencePiece model that encodes such columns."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.bpe.cuts import Cuts
from storage.bpe.encoder import SegmentEncoder
from storage.bpe.known import Ids, Numbers
from storage.bpe.model_file import ModelFile, without_space_before

SPACE_MARK = "▁"
"""SentencePiece writes a space as this character (U+2581); a text that holds it literally needs care."""
_SEPARATORS = [chr(code) for code in range(1, 0x20) if chr(code) not in "\t\n\r"]
_EACH_BYTE = "athanor-each-byte"


def column_of(texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """The texts as one Arrow array of valid UTF-8.

    Every byte that belongs to no character (of a lone surrogate each of its three) becomes U+FFFD:
    so SentencePiece reads bytes.
    """
    try:
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        array = texts.cast(pa.large_string()) if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
        array.validate(full=True)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        if isinstance(texts, pa.Array):
            raw = texts.cast(pa.large_binary()).to_pylist()
        else:
            raw = [text.encode("utf-8", "surrogatepass") for text in texts]
        array = pa.array([each.decode("utf-8", _EACH_BYTE) for each in raw], pa.large_string())
    return array


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_EACH_BYTE, _replace_each_byte)


class TextEncoder:
    """A SentencePiece model of byte pairs that changes no character."""

    def __init__(self, encoder: SegmentEncoder, space_before: bool) -> None:
        self._encoder = encoder
        self.space_before = space_before
        """Whether a space is put before every text. If not, nothing of a text is lost: its literal marks stay too."""

    @classmethod
    def of(cls, content: bytes, file: ModelFile | None = None) -> TextEncoder | None:
        """Of a model file's content, and what was read of it.

        None for a model whose ids of a segment may depend on what surrounds it; ValueError for what is no model.
        """
        from sentencepiece import SentencePieceProcessor

        file = file or ModelFile.parse(content)
        # Unknown characters next to each other become one piece, but for bytes.
        if not (file.is_bpe and file.byte_fallback and file.keeps_characters) or file.has_unused:
            return None
        model = SentencePieceProcessor(model_proto=without_space_before(content) if file.space_before else content)
        pieces = file.usual
        inner = {character for piece in pieces if len(piece) > 1 for character in piece}
        separator = next((each for each in _SEPARATORS if each not in inner and len(model.encode(each)) == 1), None)
        mark_bytes = [model.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
        if separator is None or any(" " in piece for piece in pieces) or any(map(model.is_unknown, mark_bytes)):
            return None
        plain, symbols = ([each.replace(SPACE_MARK, " ") for each in some] for some in (pieces, file.defined))
        cuts = Cuts.of(plain, symbols, _longest_run(file.defined))
        return cls(SegmentEncoder(model, cuts, separator, {SPACE_MARK: mark_bytes}), file.space_before)

    def encode(self, texts: pa.LargeStringArray) -> tuple[Ids, Numbers]:
        """Ids of all texts (valid UTF-8), end to end, and (texts + 1) where each begins among them."""
        if self.space_before:
            # As the model does it: it takes a literal mark for a space, and leaves an empty text empty.
            plain = pc.replace_substring(texts, SPACE_MARK, " ")
            space, nothing = pa.scalar(" ", pa.large_string()), pa.scalar("", pa.large_string())
            texts = pc.binary_join_element_wise(pc.if_else(pc.equal(plain, nothing), nothing, space), plain, nothing)
        _, offsets, data = texts.buffers()
        if data is None or not len(texts):
            return np.empty(0, np.int32), np.zeros(len(texts) + 1, np.int64)
        places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        return self._encoder.encode(np.frombuffer(data, np.uint8), places)


def _longest_run(defined: list[str]) -> int:
    """The longest of the runs of spaces that are symbols, if all from 2 on are, and no other symbol holds a space."""
    with_spaces = {symbol for symbol in defined if SPACE_MARK in symbol}
    longest = max(map(len, with_spaces), default=0)
    return longest if with_spaces == {SPACE_MARK * length for length in range(2, longest + 1)} and longest > 1 else 0
