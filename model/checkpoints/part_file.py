"""One process's part of a checkpoint: a safetensors file of flat tensors, and a map of what lies where in them.

A weight's values are addressed by their place in the flattened weight, so that any process under
any ZeRO stage can read the ranges that it needs, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from storage.errors import StoreCorrupted

WEIGHTS = "weights"
"""The kind of values that are the weights themselves; others are an optimiser's: ``exp_avg`` …"""
_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16"}
_BLOCK = 16 << 20
"""Bytes that are written and digested at a time; Python's lock is free meanwhile, so training goes on."""


Columns = tuple[int, int, int]
"""Of a matrix: the first, the number, and of how many."""


@dataclass(frozen=True)
class Piece:
    """Where a range of a weight's values lies in a file, the same in the tensors of every kind."""

    weight: str
    start: int
    """Of the range, in the flattened weight."""
    length: int
    flat: int
    """Number of the flat tensor: ``KIND/FLAT`` in the file."""
    at: int
    """Of the range, in the flat tensor."""
    columns: Columns | None = None
    """Where the process had columns of the weight alone: ``start`` is in those, flattened."""


@dataclass(frozen=True)
class Part:
    """What one process keeps: host copies, untouched until they are written."""

    tensors: Mapping[str, Tensor]
    """1-D, by ``KIND/FLAT``."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Written:
    """A part on the disk."""

    digest: str
    bytes: int


def write_part(path: Path, part: Part) -> Written:
    """Write a safetensors file, digest it on the way, and wait until it is on the disk. Raises OSError.

    Not by the safetensors library, which tells a full disk without its error number and would
    make a second reading necessary for the digest.
    """
    header: dict[str, object] = {"__metadata__": {"pieces": json.dumps([asdict(piece) for piece in part.pieces])}}
    end = 0
    for name, tensor in part.tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for block in _blocks(len(text).to_bytes(8, "little") + text, part):
            rest = memoryview(block)
            while rest:
                rest = rest[file.write(rest) :]
            digest.update(block)
            size += len(block)
        os.fsync(file.fileno())
    return Written(digest.hexdigest(), size)


def _blocks(head: bytes, part: Part) -> Iterator[memoryview]:
    for content in (memoryview(head), *(_bytes_of(tensor) for tensor in part.tensors.values())):
        for start in range(0, len(content), _BLOCK):
            yield content[start : start + _BLOCK]


def _bytes_of(tensor: Tensor) -> memoryview:
    values: Any = tensor.contiguous().view(torch.uint8).numpy()
    return memoryview(values)


class Parts:
    """All parts of a checkpoint, read by ranges; files are mapped, not loaded."""

    def __init__(self, paths: list[Path]) -> None:
        self._files: list[Any] = [safe_open(path, "pt") for path in paths]
        self._ranges: dict[tuple[str, str], list[tuple[int, Piece]]] = {}
        for number, file in enumerate(self._files):
            kinds: dict[int, list[str]] = {}
            for name in file.keys():  # noqa: SIM118 - no mapping
                kind, _, flat = name.rpartition("/")
                kinds.setdefault(int(flat), []).append(kind)
            for piece in json.loads(file.metadata()["pieces"]):
                columns = tuple(piece["columns"]) if piece.get("columns") else None
                for kind in kinds[piece["flat"]]:
                    found = self._ranges.setdefault((kind, piece["weight"]), [])
                    found.append((number, Piece(**piece | {"columns": columns})))

    def kinds_of(self, weight: str) -> list[str]:
        """Kinds of values that are kept of a weight, sorted."""
        return sorted(kind for kind, name in self._ranges if name == weight)

    def weights(self) -> list[str]:
        """Names of all weights, sorted."""
        return sorted(name for kind, name in self._ranges if kind == WEIGHTS)

    def read(
        self, kind: str, weight: str, start: int = 0, length: int | None = None, columns: Columns | None = None
    ) -> Tensor:
        """The values ``start`` to ``start + length`` (default: all) of a flattened weight, or of columns of it.

        Columns that were not kept as such are taken from the whole weight, which is put together first.
        Raises StoreCorrupted where the parts do not hold all of them.
        """
        known = [(number, piece) for number, piece in self._ranges.get((kind, weight), []) if piece.columns == columns]
        if not known and (kind, weight) in self._ranges:
            whole = self._whole(kind, weight)
            if columns is not None:
                whole = whole.view(-1, columns[2])[:, columns[0] : columns[0] + columns[1]].flatten()
            return whole[start:] if length is None else whole[start : start + length]
        if length is None:
            length = max((piece.start + piece.length for _, piece in known), default=0) - start
        found: Tensor | None = None
        done = 0
        for number, piece in known:
            first, last = max(start, piece.start), min(start + length, piece.start + piece.length)
            if first < last:
                at = piece.at + first - piece.start
                values = self._files[number].get_slice(f"{kind}/{piece.flat}")[at : at + last - first]
                found = torch.empty(length, dtype=values.dtype) if found is None else found
                found[first - start : last - start] = values
                done += last - first
        if found is None or done != length:
            raise StoreCorrupted(f"a checkpoint lacks values of {kind} of {weight}: {done} of {length}")
        return found

    def _whole(self, kind: str, weight: str) -> Tensor:
        """A flattened weight, of the columns that it was kept in (or as it was kept)."""
        kept = {piece.columns for _, piece in self._ranges[kind, weight]}
        if None in kept:
            return self.read(kind, weight)
        in_order = sorted(columns for columns in kept if columns is not None)
        parts = [self.read(kind, weight, columns=columns).view(-1, columns[1]) for columns in in_order]
        if sum(columns[1] for columns in in_order) != in_order[0][2]:
            raise StoreCorrupted(f"a checkpoint lacks columns of {kind} of {weight}")
        return torch.cat(parts, 1).flatten()
