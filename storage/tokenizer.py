"""Tokenizers: text to ids and back, from a SentencePiece model or any Hugging Face tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifact import Artifact
from storage.bpe.known import Ids, Numbers
from storage.bpe.model_file import ModelFile
from storage.bpe.texts import TextEncoder, column_of
from storage.errors import SourceError

MASK_NAMES = ("<mask>", "[MASK]")
"""Special tokens that stand for a hidden token, where a tokenizer does not say which of its tokens does."""
SENTINEL = "<extra_id_{}>"
"""Name of the special token that stands for gap number 0, 1, 2 … of a text (Raffel et al. 2020, section 3.1.4)."""
_PROBE = "The end.  def f(x):\n    return {'a': [1, 23]}\n\n\t床前明月光，疑是地上霜。é ▁ 👩‍👩‍👧‍👦 \x00 word<s> "
"""Tells whether two files of one folder give the same ids."""


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
        values, offsets = self.encode_columns(texts)
        return [values[start:end] for start, end in pairwise(offsets.tolist())]

    def encode_columns(self, texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> tuple[Ids, Numbers]:
        """Ids of all texts (strings, or an Arrow column of them), end to end: int32; and where each begins: int64.

        Text ``i`` has the ids from ``offsets[i]`` to ``offsets[i + 1]``. A byte that belongs to no
        character, as of a lone surrogate, is read as U+FFFD.
        """
        return self._backend.encode(column_of(texts))

    def encode_documents(self, texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> tuple[Ids, Numbers]:
        """The same, with the beginning token before each text's ids and the end token behind them."""
        values, offsets = self.encode_columns(texts)
        bounds = offsets + 2 * np.arange(len(offsets))
        whole = np.empty(bounds[-1], np.int32)
        is_text = np.ones(len(whole), np.bool_)
        for places, token in ((bounds[:-1], self.bos_id), (bounds[1:] - 1, self.eos_id)):
            whole[places], is_text[places] = token, False
        whole[is_text] = values
        return whole, bounds

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

    @property
    def mask_id(self) -> int | None:
        """Id of the token that stands for a hidden one; None where there is none."""
        return self._backend.mask_id

    @property
    def sentinel_ids(self) -> list[int]:
        """Ids of the tokens that stand for the gaps of a text, in the order of their numbers."""
        return self._backend.sentinel_ids

    @property
    def special_ids(self) -> list[int]:
        """Ids that no text is encoded to, in ascending order: the beginning, the end, a hidden token …"""
        return self._backend.special_ids

    @property
    def pieces(self) -> list[str]:
        """By id, what the file calls each piece, marks included (``▁the``, ``Ġthe``, ``##ing``, ``<0xE4>``)."""
        return self._backend.pieces()

    @cached_property
    def _backend(self) -> _Backend:
        files = self.manifest.files
        fast = _HuggingFace(self) if "tokenizer.json" in files else None
        if "tokenizer.model" in files:
            if fast is None:
                return _SentencePiece(self.path("tokenizer.model"))
            # Beside a tokenizer.json, the model is only taken where it loses nothing and gives the same ids.
            model = _lossless(self.path("tokenizer.model"))
            if model is not None and model.vocab_size == fast.vocab_size and _agree(model, fast):
                return model
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
    mask_id: int | None
    sentinel_ids: list[int]
    special_ids: list[int]

    def encode(self, texts: pa.LargeStringArray) -> tuple[Ids, Numbers]: ...

    def decode(self, ids: list[int]) -> str: ...

    def pieces(self) -> list[str]: ...


class _SentencePiece:
    """A SentencePiece model: in columns where that gives its own ids."""

    def __init__(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = SentencePieceProcessor()
        try:
            content = path.read_bytes()
            self._model.load_from_serialized_proto(content)
            file = ModelFile.parse(content)
            self.columns = TextEncoder.of(content, file)
        except (RuntimeError, OSError, ValueError) as error:
            raise SourceError(f"tokenizer {path.name}: it is no SentencePiece model; name another folder") from error
        self.vocab_size = int(self._model.get_piece_size())
        self.eos_id = int(self._model.eos_id())
        if self.eos_id < 0:
            raise SourceError(f"tokenizer {path.name}: it has no end token; train one with </s>")
        self.bos_id = _or_else(self._model.bos_id(), self.eos_id)
        self.pad_id = _or_else(self._model.pad_id(), self.eos_id)
        self.special_ids = file.special
        names = {self._model.id_to_piece(token): token for token in self.special_ids}
        self.mask_id = next((names[name] for name in MASK_NAMES if name in names), None)
        self.sentinel_ids = sentinels_in(names)

    def encode(self, texts: pa.LargeStringArray) -> tuple[Ids, Numbers]:
        if self.columns is not None:
            return self.columns.encode(texts)
        return _joined([self._model.encode(text, return_type="numpy") for text in texts.to_pylist()])

    def decode(self, ids: list[int]) -> str:
        text: str = self._model.decode(ids)
        return text

    def pieces(self) -> list[str]:
        return [self._model.id_to_piece(token) for token in range(self.vocab_size)]


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
        added = {token.content: n for n, token in self._fast.get_added_tokens_decoder().items() if token.special}
        self.special_ids = sorted(added.values())
        self.sentinel_ids = sentinels_in(added)
        names = (special.get("mask_token"), *(n for n in MASK_NAMES if vocabulary.get(n) in self.special_ids))
        self.mask_id = next((vocabulary[name] for name in names if name in vocabulary), None)

    def encode(self, texts: pa.LargeStringArray) -> tuple[Ids, Numbers]:
        encoded = (self._fast.encode(text, add_special_tokens=False).ids for text in texts.to_pylist())
        return _joined([np.array(ids, np.int32) for ids in encoded])

    def decode(self, ids: list[int]) -> str:
        return str(self._fast.decode(ids, skip_special_tokens=True))

    def pieces(self) -> list[str]:
        return [self._fast.id_to_token(token) or "" for token in range(self.vocab_size)]


def _joined(parts: Sequence[Ids]) -> tuple[Ids, Numbers]:
    """The parts end to end, and (parts + 1) where each begins."""
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return np.concatenate([np.empty(0, np.int32), *parts]), offsets


def _lossless(path: Path) -> _SentencePiece | None:
    """The SentencePiece model, if it is one that loses nothing. (``tokenizer.model`` also names other formats.)"""
    try:
        model = _SentencePiece(path)
    except SourceError:
        return None
    return model if model.columns is not None and not model.columns.space_before else None


def _agree(model: _Backend, other: _Backend) -> bool:
    probe = column_of([_PROBE])
    return np.array_equal(model.encode(probe)[0], other.encode(probe)[0])


def _special_tokens(artifact: Tokenizer) -> dict[str, str]:
    """Names of the special tokens by their role, from whichever file tells them."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if name in artifact.manifest.files:
            for role, token in json.loads(artifact.path(name).read_text("utf-8")).items():
                content = token.get("content") if isinstance(token, dict) else token
                if role in ("bos_token", "eos_token", "pad_token", "mask_token") and isinstance(content, str):
                    found[role] = content
    return found


def sentinels_in(special: Mapping[str, int]) -> list[int]:
    """Of special tokens by their names: the sentinels from 0 on, as far as none is left out."""
    found: list[int] = []
    for number in count():
        if (name := SENTINEL.format(number)) not in special:
            break
        found.append(special[name])
    return found


def _or_else(token: int, other: int) -> int:
    return int(token) if token >= 0 else other
