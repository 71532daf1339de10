"""Which blocks of a network each stage of a pipeline has. Imports no torch."""

from __future__ import annotations

import math
from itertools import pairwise

from model.config import ModelConfig

PLUMBING = "how a network is spread over processes cannot shape its result"


def blocks_of_stages(shape: ModelConfig, vocabulary: int, stages: int) -> list[range]:
    """The blocks of each of two or more stages, so that the slowest has as little to do as can be.

    The last stage has the output layer too, which counts by its matrix; looking embeddings up is free.
    Every stage has a block at least: ``model.planning.fit.check`` refuses more stages than blocks.
    """
    block, output = shape.hidden_parameters / shape.layers, vocabulary * shape.width

    def slowest(last: int) -> float:
        """With so many blocks on the last stage."""
        return max(math.ceil((shape.layers - last) / (stages - 1)) * block, last * block + output)

    most = shape.layers - stages + 1
    before = shape.layers - min(range(most, 0, -1), key=slowest)
    edges = [*(before * stage // (stages - 1) for stage in range(stages)), shape.layers]
    return [range(start, stop) for start, stop in pairwise(edges)]
