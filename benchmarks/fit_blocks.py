"""Fit the network that tells main text from what surrounds it, and write ``tasks/html/block_model.py``.

A block counts as main text by the share of its words that trafilatura keeps, taken only from pages
where trafilatura finds all snippets that must be there; a snippet overrules it. What ships is fitted to
all labelled pages; ``benchmarks/extraction.py`` fits to one half and judges by the other.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.article_pages import SHINGLE, Page, article_pages, words_of
from tasks.html.blocks import outline_of
from tasks.html.features import Floats, Measured, measure
from tasks.html.scoring import LIMIT, pooling_weights

TARGET = Path(__file__).parents[1] / "tasks" / "html" / "block_model.py"
HIDDEN = 32
EPOCHS = 20
PAGES_A_STEP = 8
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
DROPOUT = 0.2
MIN_TEACHING = 200
"""Characters that trafilatura must find on a page to teach."""


@dataclass
class Labelled:
    """A page's blocks, what should be kept of each (0 to 1), and its weight in the loss."""

    measured: Measured
    kept: Floats
    weights: Floats


def _flat(text: str) -> str:
    return " ".join(words_of(text))


def label(page: Page, texts: Sequence[str], reference: str) -> tuple[Floats, Floats]:
    """Per block: what should be kept, and its number of words."""
    words = words_of(reference)
    known = {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
    lines = {_flat(line) for line in reference.split("\n")}
    present, absent = [_flat(text) for text in page.present], [_flat(text) for text in page.absent]
    kept, counts = np.zeros(len(texts), np.float32), np.zeros(len(texts), np.float32)
    for number, text in enumerate(texts):
        block = words_of(unescape(text))
        flat = " ".join(block)
        counts[number] = len(block)
        if len(block) >= SHINGLE:
            shingles = [tuple(block[at : at + SHINGLE]) for at in range(len(block) - SHINGLE + 1)]
            kept[number] = sum(shingle in known for shingle in shingles) / len(shingles)
        elif block:
            kept[number] = flat in lines
        if any(snippet and snippet in flat for snippet in present):
            kept[number], counts[number] = 1, 2 * len(block)
        elif any(
            snippet and (snippet == flat or (" " in snippet and snippet in flat and len(block) < 60))
            for snippet in absent
        ):
            kept[number] = 0
    return kept, counts


class Network(nn.Module):
    """The network of ``tasks.html.scoring``, to be fitted."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale
        self.first, self.second, self.last = (
            nn.Linear(len(mean), HIDDEN),
            nn.Linear(9 * HIDDEN, HIDDEN),
            nn.Linear(HIDDEN, 1),
        )
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, page: Measured) -> Tensor:
        features = ((torch.from_numpy(page.features.T) - self.mean) * self.scale).clamp(-LIMIT, LIMIT)
        seen = torch.relu(self.first(self.drop(features)))
        count = len(seen)
        edge = torch.zeros(2, HIDDEN)
        padded = torch.cat([edge, seen, edge])
        weights = torch.from_numpy(pooling_weights(page.chars))[:, None]
        sums = torch.cat([edge[:1], torch.cumsum(seen * weights, 0)])
        totals = torch.cat([torch.zeros(1, 1), torch.cumsum(weights, 0)])
        views = [seen, *(padded[shift : shift + count] for shift in (0, 1, 3, 4))]
        for first, end in page.spans:
            views.append((sums[end] - sums[first]) / (totals[end] - totals[first]))
        views.append((sums[-1:] / totals[-1:]).expand(count, -1))
        scores: Tensor = self.last(torch.relu(self.second(self.drop(torch.cat(views, 1)))))
        return scores[:, 0]


def fit(pages: Sequence[Labelled], seed: int = 0) -> Network:
    """Fit to the pages; deterministic on one thread."""
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    features = np.concatenate([page.measured.features for page in pages], axis=1)
    network = Network(torch.from_numpy(features.mean(1)), torch.from_numpy(1 / (features.std(1) + 0.05)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(pages) // PAGES_A_STEP)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.05)
    for _ in range(EPOCHS):
        places = order.permutation(len(pages))
        for start in range(0, len(pages), PAGES_A_STEP):
            losses = [_loss(network, pages[place]) for place in places[start : start + PAGES_A_STEP]]
            optimizer.zero_grad()
            torch.autograd.backward(torch.stack(losses).mean())
            optimizer.step()
            schedule.step()
    return network.eval()


def _loss(network: Network, page: Labelled) -> Tensor:
    """A page counts the same whatever its length, its blocks by the root of their words."""
    weights = torch.from_numpy(np.sqrt(1 + page.weights))
    losses = binary_cross_entropy_with_logits(network(page.measured), torch.from_numpy(page.kept), reduction="none")
    return (losses * weights).sum() / weights.sum()


def packed(network: Network) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """The fitted numbers in half precision as text, and their shapes, for ``scoring.unpacked``."""
    layers = (network.first, network.second, network.last)
    first, second, last = ((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers)
    parts = [network.mean.numpy(), network.scale.numpy(), *first, *second, last[0][0], last[1]]
    numbers = np.concatenate([part.ravel() for part in parts]).astype(np.float16)
    return base64.b85encode(zlib.compress(numbers.tobytes(), 9)).decode(), tuple(part.shape for part in parts)


def source_of(network: Network) -> str:
    """The module with the fitted numbers."""
    numbers, shapes = packed(network)
    lines = "\n".join(numbers[at : at + 116] for at in range(0, len(numbers), 116))
    return (
        '"""The fitted numbers of ``tasks.html.scoring``, written by ``benchmarks/fit_blocks.py``."""\n\n'
        f"SHAPES: tuple[tuple[int, ...], ...] = {shapes}\n"
        f'PARAMETERS = r"""\n{lines}\n"""\n'
        '"""Half-precision numbers, compressed, in base 85; in the order of ``Parameters``."""\n'
    )


def labelled(page: Page, reference: str) -> Labelled | None:
    """What a page teaches; None where the reference is no good teacher."""
    flat = " ".join(reference.split())
    if len(reference) < MIN_TEACHING or not all(" ".join(text.split()) in flat for text in page.present):
        return None
    blocks = outline_of(page.html)
    if not blocks.texts:
        return None
    kept, counts = label(page, blocks.texts, reference)
    return Labelled(measure(blocks), kept, counts)


def fit_to(pages: Sequence[Page], reference: Mapping[str, str]) -> Network:
    """The network fitted to these pages, trafilatura's texts by name being the reference."""
    torch.set_num_threads(1)
    return fit([lesson for page in pages if (lesson := labelled(page, reference[page.name]))])


def main() -> None:
    """Fit to all pages, and write."""
    import trafilatura

    pages = article_pages()
    reference = {page.name: trafilatura.extract(page.html, include_comments=False) or "" for page in pages}
    TARGET.write_text(source_of(fit_to(pages, reference)), encoding="utf-8")


if __name__ == "__main__":
    main()
