"""Fit the network that tells main text from what surrounds it, and write ``tasks/html/block_model.py``.

A block counts as main text by the share of its words that trafilatura keeps, taken only from pages
where trafilatura finds all snippets that must be there; a snippet overrules it, weighs more, and is all
that the other pages teach. What ships is fitted to all labelled pages; ``benchmarks/extraction.py`` fits
to one half and judges by the other.
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
SNIPPET_WEIGHT = 2.0
"""How much more a block counts that holds a snippet."""


@dataclass
class Labelled:
    """A page's blocks, what should be kept of each (0 to 1), and its weight in the loss."""

    measured: Measured
    kept: Floats
    weights: Floats


def _flat(text: str) -> str:
    return " ".join(words_of(text))


def label(page: Page, texts: Sequence[str], reference: str, is_teacher: bool) -> tuple[Floats, Floats]:
    """Per block: what should be kept, and its weight, by the root of its number of words.

    Where the reference ``is_teacher`` is false, only blocks with snippets weigh anything.
    """
    words = words_of(reference)
    known = {tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)}
    lines = {_flat(line) for line in reference.split("\n")}
    present, absent = [_flat(text) for text in page.present], [_flat(text) for text in page.absent]
    kept, weights = np.zeros(len(texts), np.float32), np.zeros(len(texts), np.float32)
    for number, text in enumerate(texts):
        block = words_of(unescape(text))
        flat = " ".join(block)
        weight = float(np.sqrt(1 + len(block)))
        weights[number] = weight * is_teacher
        if len(block) >= SHINGLE:
            shingles = [tuple(block[at : at + SHINGLE]) for at in range(len(block) - SHINGLE + 1)]
            kept[number] = sum(shingle in known for shingle in shingles) / len(shingles)
        elif block:
            kept[number] = flat in lines
        if any(snippet and snippet in flat for snippet in present):
            kept[number], weights[number] = 1, SNIPPET_WEIGHT * np.sqrt(2) * weight
        elif any(
            snippet and (snippet == flat or (" " in snippet and snippet in flat and len(block) < 60))
            for snippet in absent
        ):
            kept[number], weights[number] = 0, SNIPPET_WEIGHT * weight
    return kept, weights


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

    def forward(self, pages: Sequence[Measured]) -> Tensor:
        """The scores of the blocks of several pages, one page behind the other."""
        features = torch.from_numpy(np.concatenate([page.features.T for page in pages]))
        seen = torch.relu(self.first(self.drop(((features - self.mean) * self.scale).clamp(-LIMIT, LIMIT))))
        counts = [len(page.chars) for page in pages]
        starts = np.cumsum(counts) - counts
        number = np.repeat(np.arange(len(pages)), counts)
        views, blocks = [seen], np.arange(len(number))
        for shift in (-2, -1, 1, 2):
            beside = np.clip(blocks + shift, 0, len(blocks) - 1)
            is_there = (number[beside] == number) & (beside == blocks + shift)
            views.append(seen[torch.from_numpy(beside)] * torch.from_numpy(is_there)[:, None])
        weights = torch.from_numpy(pooling_weights(np.concatenate([page.chars for page in pages])))[:, None].double()
        sums = torch.cat([torch.zeros(1, HIDDEN, dtype=torch.float64), torch.cumsum(seen.double() * weights, 0)])
        totals = torch.cat([torch.zeros(1, 1, dtype=torch.float64), torch.cumsum(weights, 0)])
        spans = [
            np.concatenate([np.stack(page.spans[level]) + start for page, start in zip(pages, starts, strict=True)], 1)
            for level in range(3)
        ]
        spans.append(np.stack((starts[number], (starts + counts)[number])))
        for first, end in map(torch.from_numpy, spans):
            views.append(((sums[end] - sums[first]) / (totals[end] - totals[first])).float())
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
            optimizer.zero_grad()
            torch.autograd.backward(_loss(network, [pages[place] for place in places[start : start + PAGES_A_STEP]]))
            optimizer.step()
            schedule.step()
    return network.eval()


def _loss(network: Network, pages: Sequence[Labelled]) -> Tensor:
    """The mean over pages: each counts the same whatever its length."""
    weights = torch.from_numpy(np.concatenate([page.weights / page.weights.sum() for page in pages]))
    kept = torch.from_numpy(np.concatenate([page.kept for page in pages]))
    scores = network([page.measured for page in pages])
    return (binary_cross_entropy_with_logits(scores, kept, reduction="none") * weights).sum() / len(pages)


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
    """What a page teaches; None where that is nothing."""
    flat = " ".join(reference.split())
    is_teacher = len(reference) >= MIN_TEACHING and all(" ".join(text.split()) in flat for text in page.present)
    blocks = outline_of([page.html])
    if not blocks.texts:
        return None
    kept, weights = label(page, blocks.texts, reference, is_teacher)
    return Labelled(measure(blocks), kept, weights) if weights.any() else None


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
