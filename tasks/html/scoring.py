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
_SINGLE_THREAD = 1 << 18
"""Multiplications up to which OpenBLAS uses one thread (its GEMM_MULTITHREAD_THRESHOLD of 4, times 65,536)."""


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
    """Matrix product in slices so small that OpenBLAS computes each on this thread: waking others costs more."""
    step = max(_SINGLE_THREAD // matrix.size, 1)
    if columns.shape[1] <= step:
        return matrix @ columns
    out = np.empty((len(matrix), columns.shape[1]), np.float32)
    for start in range(0, columns.shape[1], step):
        np.matmul(matrix, columns[:, start : start + step], out=out[:, start : start + step])
    return out


def scores_of(page: Measured, fitted: Parameters | None = None) -> Floats:
    """Per block, the log-odds that it is main text, by the network that ships or another one."""
    fitted = fitted or parameters()
    features = page.features - fitted.mean_F[:, None]
    features *= fitted.scale_F[:, None]
    np.maximum(features, -LIMIT, out=features)
    np.minimum(features, LIMIT, out=features)
    hidden, count = len(fitted.bias_H), features.shape[1]
    views = np.zeros((9, hidden, count), np.float32)
    seen = views[0]
    np.add(_product(fitted.weights_HF, features), fitted.bias_H[:, None], out=seen)
    np.maximum(seen, 0, out=seen)
    for view, shift in enumerate((-2, -1, 1, 2), 1):
        views[view, :, max(-shift, 0) : max(count - shift, 0)] = seen[:, max(shift, 0) : max(count + shift, 0)]
    weights = pooling_weights(page.chars)
    sums = np.zeros((hidden + 1, count + 1))
    np.cumsum(seen * weights, axis=1, out=sums[:-1, 1:])
    np.cumsum(weights, out=sums[-1, 1:])
    for view, (first, end) in enumerate(page.spans, 5):
        within = sums[:, end] - sums[:, first]
        np.divide(within[:-1], within[-1], out=views[view], casting="same_kind")
    views[8] = (sums[:-1, -1] / sums[-1, -1])[:, None]
    second = _product(fitted.weights_H9H, views.reshape(-1, count))
    second += fitted.bias_2_H[:, None]
    np.maximum(second, 0, out=second)
    scores: Floats = fitted.weights_H @ second + fitted.bias
    return scores
