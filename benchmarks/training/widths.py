"""Whether the best learning rate stays where it is when the network widens: with ``base_width`` and without.

Tiny Shakespeare by characters, heads of 16, one process, AdamW: each width is trained at rates a
factor of two apart, and all but the width and the rate is equal. Without ``base_width`` the
narrowest network is the same in both, since it is the base.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from benchmarks.measure import Table
from benchmarks.training.progress import Progress
from benchmarks.training.texts import shakespeare
from model.config import ModelConfig
from model.learning.optimizer_config import OptimizerConfig
from model.learning.optimizers import initialise_for_width, make_optimizer, set_learning_rate
from model.learning.schedule import learning_rate
from model.network.transformer import Transformer

WIDTHS = (32, 256)
EXPONENTS = (-11, -10, -9, -8, -7, -6, -5, -4)
"""Learning rates are two to these."""
STEPS, SEQUENCES, CONTEXT, HEAD = 250, 16, 32, 16
_SMOOTHED = 50
"""Last steps whose training loss is averaged."""

Ids = npt.NDArray[np.integer]


def measure() -> list[Table]:
    """Losses at every width and rate, in both parametrisations."""
    with tempfile.TemporaryDirectory() as folder:
        files = shakespeare(Path(folder) / "text")
        ids, vocabulary = np.fromfile(files.folder / "train.bin", "<u2").astype(np.int64), files.vocabulary
        rows, progress = [], Progress("widths", 2 * sum(WIDTHS))
        for name, base in (("standard", None), (f"base_width {WIDTHS[0]}", WIDTHS[0])):
            for width in WIDTHS:
                losses = [trained(ids, vocabulary, width, 2.0**exponent, base) for exponent in EXPONENTS]
                rows.append(_row(name, width, losses))
                progress.did(f"{name}, width {width}", width)
    return [
        Table(
            "Learning rates at two widths",
            ("parametrisation", "width", *(f"2^{exponent}" for exponent in EXPONENTS), "best rate"),
            rows,
            (
                f"Mean training loss (nats) of the last {_SMOOTHED} of {STEPS} steps of {SEQUENCES * CONTEXT} "
                "characters of Tiny Shakespeare, by learning rate. Two layers, heads of 16 features, AdamW, cosine to "
                "a tenth after a warm-up of 25 steps, one seed. The best rate is the vertex of the parabola through "
                "the lowest loss and its neighbours.",
            ),
        )
    ]


def _row(name: str, width: int, losses: Sequence[float]) -> tuple[str, ...]:
    cells = [f"{loss:.3f}" if math.isfinite(loss) else "diverged" for loss in losses]
    return (name, str(width), *cells, f"2^{best(losses):.1f}")


def best(losses: Sequence[float]) -> float:
    """The exponent of the best rate, between those tried."""
    at = min(range(len(losses)), key=lambda index: losses[index] if math.isfinite(losses[index]) else math.inf)
    if at in (0, len(losses) - 1) or not all(math.isfinite(loss) for loss in losses[at - 1 : at + 2]):
        return float(EXPONENTS[at])
    before, lowest, after = losses[at - 1 : at + 2]
    return EXPONENTS[at] + (before - after) / (2 * (before - 2 * lowest + after))


def trained(ids: Ids, vocabulary: int, width: int, rate: float, base_width: int | None) -> float:
    """Train a network of that width and return its last losses' mean."""
    shape = ModelConfig(layers=2, width=width, heads=width // HEAD, context=CONTEXT, feed_forward=2 * width)
    batch_tokens = SEQUENCES * CONTEXT
    config = OptimizerConfig(learning_rate=rate, base_width=base_width, warmup_tokens=25 * batch_tokens)
    network = Transformer(shape, vocabulary)
    network.initialise(1)
    initialise_for_width(network, config, width)
    optimizer = make_optimizer(network, config)
    random = np.random.default_rng(1)
    losses = []
    for step in range(STEPS):
        starts = random.integers(0, len(ids) - CONTEXT - 1, SEQUENCES)
        rows = torch.from_numpy(np.stack([ids[start : start + CONTEXT + 1] for start in starts]).astype(np.int64))
        loss = F.cross_entropy(network(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        set_learning_rate(optimizer, learning_rate((step + 0.5) * batch_tokens, config, STEPS * batch_tokens))
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-_SMOOTHED:]))
