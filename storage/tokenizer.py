"""Tokenizers: text to ids and back, from a SentencePiece model or any Hugging Face tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from storage.artifact import Artifact
from storage.errors import SourceError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

Ids = npt.NDArray[np.int32]

SPACE_MARK = "▁"
"""SentencePiece writes a space as this character (U+2581); a text that holds it literally needs care."""
_MARK_BYTES = [f"<0x{byte:02X}>" for byte in SPACE_MARK.encode()]
_WORD = re.compile(rf"\n+|\t+| *[^ \n\t{SPACE_MARK}]+| +|{SPACE_MARK}")
"""Cuts a text, all of it, where no piece of a plain model reaches across."""


class Tokenizer(Artifact):
    """A tokenizer: ``tokenizer.model`` (SentencePiece) or ``tokenizer.json`` (Hugging Face), or both with the same ids.

    No method adds special tokens, and their names within a text are plain text.
    """

    kind = "tokenizer"

    def encode(self, text: str) -> Ids:
        """Ids of a text, int32."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, int32; much faster than one by one."""
        return self._backend.encode_many(texts)

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """The text; special tokens give nothing."""
        return self._backend.decode([int(token) for token in ids])

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._backend.vocab_size

    @property
    def bos_id(self) -> int:
        """Id of the beginning token; that of the end token where there is none."""
        return self._backend.bos_id

    @property
    def eos_id(self) -> int:
        return self._backend.eos_id

    @property
    def pad_id(self) -> int:
        """Id of the padding token; that of the end token where there is none."""
        return self._backend.pad_id

    @cached_property
    def _backend(self) -> _Backend:
        files = self.manifest.files
        fast = _HuggingFace(self) if "tokenizer.json" in files else None
        if "tokenizer.model" in files:
            if fast is None:
                return _SentencePiece(self.path("tokenizer.model"))
            # Beside a tokenizer.json, the model is only taken where it is known to give the same ids.
            slow = _plain_model(self.path("tokenizer.model"))
            if slow is not None and slow.vocab_size == fast.vocab_size:
                return slow
        if fast is None:
            raise SourceError(
                f"tokenizer {self.folder.name}: it has neither tokenizer.model nor tokenizer.json; name another folder"
            )
        return fast


class _Backend(Protocol):
    vocab_size: int
    bos_id: int
    eos_id: int
    pad_id: int

    def encode_many(self, texts: Sequence[str]) -> list[Ids]: ...

    def decode(self, ids: list[int]) -> str: ...


class _SentencePiece:
    """A SentencePiece model. A *plain* one changes no character and has no piece that reaches across words."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = SentencePieceProcessor()
        try:
            self._model.load(str(path))
        except (RuntimeError, OSError) as error:
            raise SourceError(f"tokenizer {path.name}: it is no SentencePiece model; name another folder") from error
        self.vocab_size = int(self._model.get_piece_size())
        self.eos_id = int(self._model.eos_id())
        if self.eos_id < 0:
            raise SourceError(f"tokenizer {path.name}: it has no end token; train one with </s>")
        self.bos_id = _or_else(self._model.bos_id(), self.eos_id)
        self.pad_id = _or_else(self._model.pad_id(), self.eos_id)
        self.plain = _is_plain(self._model)

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        if not self.plain:
            return [np.array(ids, np.int32) for ids in self._model.encode(list(texts), num_threads=1)]
        # Most words of a text are met before: each distinct one is encoded once, and ids are gathered in columns.
        numbers: dict[str, int] = {}
        words_of = [[numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text)] for text in texts]
        encoded = self._model.encode(list(numbers), num_threads=1)
        if SPACE_MARK in numbers:
            encoded[numbers[SPACE_MARK]] = [self._model.piece_to_id(byte) for byte in _MARK_BYTES]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        pieces = np.fromiter(chain.from_iterable(encoded), np.int32, int(lengths.sum()))
        starts = np.cumsum(lengths) - lengths
        return [_gather(pieces, starts, lengths, np.array(words, np.int64)) for words in words_of]

    def decode(self, ids: list[int]) -> str:
        text: str = self._model.decode(ids)
        return text


class _HuggingFace:
    """Any tokenizer in ``tokenizer.json``."""

    def __init__(self, artifact: Tokenizer) -> None:
        from tokenizers import Tokenizer as Fast

        path = artifact.path("tokenizer.json")
        try:
            self._fast = Fast.from_file(str(path))
        except Exception as error:
            raise SourceError(f"tokenizer {path.name}: it cannot be read ({error}); name another folder") from error
        self._fast.no_padding()
        self._fast.no_truncation()
        # The name of a special token within a text is text.
        self._fast.encode_special_tokens = True
        vocabulary = self._fast.get_vocab(with_added_tokens=True)
        self.vocab_size = 1 + max(vocabulary.values())
        special = _special_tokens(artifact)
        eos = vocabulary.get(special.get("eos_token", ""))
        if eos is None:
            raise SourceError(f"tokenizer {artifact.folder.name}: tokenizer_config.json names no eos_token; add one")
        self.eos_id = eos
        self.bos_id = vocabulary.get(special.get("bos_token", ""), eos)
        self.pad_id = vocabulary.get(special.get("pad_token", ""), eos)

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(self._fast.encode(text, add_special_tokens=False).ids, np.int32) for text in texts]

    def decode(self, ids: list[int]) -> str:
        return str(self._fast.decode(ids, skip_special_tokens=True))


def _gather(pieces: Ids, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], words: Any) -> Ids:
    """The ids of the words by their numbers, end to end."""
    sizes = lengths[words]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return pieces[np.repeat(starts[words] - (ends - sizes), sizes) + np.arange(total)]


def _plain_model(path: Path) -> _SentencePiece | None:
    """The SentencePiece model, if it is one and plain. (``tokenizer.model`` is also a name of other formats.)"""
    try:
        model = _SentencePiece(path)
    except SourceError:
        return None
    return model if model.plain else None


def _is_plain(model: SentencePieceProcessor) -> bool:
    """Whether the model changes no character, falls back to bytes, and its pieces stay within ``_WORD``."""
    if model.normalize(" a  \tÀ一，\n ") != f"{SPACE_MARK}a{SPACE_MARK * 2}\tÀ一，\n{SPACE_MARK}":
        return False
    if any(model.is_unknown(model.piece_to_id(byte)) for byte in _MARK_BYTES):
        return False
    for token in range(model.get_piece_size()):
        if model.is_byte(token) or model.is_control(token) or model.is_unknown(token):
            continue
        piece = model.id_to_piece(token)
        within = piece.lstrip(SPACE_MARK)
        if SPACE_MARK in within or (("\n" in piece or "\t" in piece) and len(set(piece)) > 1):
            return False
    return True


def _special_tokens(artifact: Tokenizer) -> dict[str, str]:
    """Names of the special tokens by their role, from whichever file tells them."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if name in artifact.manifest.files:
            for role, token in json.loads(artifact.path(name).read_text("utf-8")).items():
                content = token.get("content") if isinstance(token, dict) else token
                if role in ("bos_token", "eos_token", "pad_token") and isinstance(content, str):
                    found[role] = content
    return found


def _or_else(token: int, other: int) -> int:
    return int(token) if token >= 0 else other
