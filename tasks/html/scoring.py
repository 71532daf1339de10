"""Which blocks are main text: a small network over what was measured of each and of its surroundings.

Two layers. The first sees a block alone; the second sees the first's view of the block, of two
blocks on each side, and its mean over the elements around and over the page. Fitted by
``benchmarks/fit_blocks.py``.
"""

from __future__ import annotations

import base64
import math
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np

from tasks.html.block_model import PARAMETERS, SHAPES
from tasks.html.features import Floats, Measured

MAX_CHARS = 1000
"""Characters up to which a longer block weighs more in a mean."""
MIN_CHARS = 5
"""Added to every block's weight."""
LIMIT = 5.0
"""Features lie within so many standard deviations."""
LANES = 16
"""Columns that are multiplied at a time: with nine views of 32 numbers fewer multiplications than 262,144, up to which
OpenBLAS uses one thread (its GEMM_MULTITHREAD_THRESHOLD of 4, times 65,536)."""
_PARTS = 1024
"""Means are of whole numbers of such parts, so that sums are exact and do not depend on what stands before."""


class Parameters(NamedTuple):
    """F features, H hidden units; the second layer takes nine views of H."""

    mean_F: Floats
    scale_F: Floats
    weights_HF: Floats
    bias_H: Floats
    weights_H9H: Floats
    bias_2_H: Floats
    weights_H: Floats
    bias: Floats


@cache
def parameters() -> Parameters:
    """The fitted network."""
    return unpacked(PARAMETERS, SHAPES)


def unpacked(numbers: str, shapes: tuple[tuple[int, ...], ...]) -> Parameters:
    """Parameters from half-precision numbers, compressed, in base 85, possibly over several lines."""
    flat = np.frombuffer(zlib.decompress(base64.b85decode("".join(numbers.split()))), np.float16)
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(flat.astype(np.float32), ends[:-1])
    return Parameters(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def pooling_weights(chars: Floats) -> Floats:
    """How much each block counts in a mean."""
    return np.minimum(chars, MAX_CHARS) + np.float32(MIN_CHARS)


def _product(matrix: Floats, columns: Floats) -> Floats:
    """Matrix product, each of whose columns depends on nothing but the same column, not on its place.

    Slices of columns of one width, a multiple of every kernel's, are all worked on in the same way; they are so small,
    too, that OpenBLAS computes each on this thread: waking others costs more. ``columns`` are a multiple of it.
    """
    slices = (-1, columns.shape[1] // LANES, LANES)
    out = np.empty((len(matrix), columns.shape[1]), np.float32)
    np.matmul(matrix, columns.reshape(slices).transpose(1, 0, 2), out=out.reshape(slices).transpose(1, 0, 2))
    return out


def scores_of(pages: Measured, fitted: Parameters | None = None) -> Floats:
    """Per block, the log-odds that it is main text, by the network that ships or another one."""
    fitted = fitted or parameters()
    hidden, count = len(fitted.bias_H), pages.features.shape[1]
    padded = -(-count // LANES) * LANES
    # Scaled features lie within limits; the scaling itself is left to the weights.
    room = LIMIT / fitted.scale_F
    features = np.zeros((len(room), padded), np.float32)
    np.maximum(pages.features, (fitted.mean_F - room)[:, None], out=features[:, :count])
    np.minimum(features, (fitted.mean_F + room)[:, None], out=features)
    weights_HF = fitted.weights_HF * fitted.scale_F
    bias_H = fitted.bias_H - weights_HF @ fitted.mean_F
    views = np.zeros((9, hidden, padded), np.float32)
    seen = views[0, :, :count]
    np.add(_product(weights_HF, features)[:, :count], bias_H[:, None], out=seen)
    np.maximum(seen, 0, out=seen)
    begin, end = pages.spans[-1]
    index = np.arange(count)
    for view, shift in enumerate((-2, -1, 1, 2), 1):
        to, of = slice(max(-shift, 0), max(count - max(shift, 0), 0)), slice(max(shift, 0), max(count + shift, 0))
        views[view, :, to] = seen[:, of]
        views[view][:, ((index + shift < begin) | (index + shift >= end)).nonzero()[0]] = 0
    weights = pooling_weights(pages.chars)
    sums = np.zeros((hidden + 1, count + 1))
    np.cumsum(np.rint(seen * (weights * _PARTS)), axis=1, out=sums[:-1, 1:])
    np.cumsum(weights * _PARTS, out=sums[-1, 1:])
    for view, (first, stop) in enumerate(pages.spans, 5):
        within = sums[:, stop] - sums[:, first]
        np.divide(within[:-1], within[-1], out=views[view, :, :count], casting="same_kind")
    second = _product(fitted.weights_H9H, views.reshape(-1, padded))
    second += fitted.bias_2_H[:, None]
    np.maximum(second, 0, out=second)
    second *= fitted.weights_H[:, None]
    scores: Floats = second.sum(0)[:count] + fitted.bias
    return scores
