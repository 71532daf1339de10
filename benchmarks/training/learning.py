"""What is learnt, per token and per second, beside nanoGPT's recipe: at equal parameters, on the same machine.

On Tiny Shakespeare by characters with nanoGPT's own settings for a processor, and on War and Peace
in a BPE of 4,096 pieces. Athanor trains for shares of the tokens that nanoGPT saw, each with a
schedule of its own, and once for as many seconds as nanoGPT took.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from benchmarks.measure import Table
from benchmarks.training import nano_gpt, ours
from benchmarks.training.progress import Progress
from benchmarks.training.texts import Ids, TokenFiles, shakespeare, war_and_peace
from model.config import ModelConfig
from storage.shards import Shards

SEEDS = (1, 2, 3)
SHARES = (0.1, 0.2, 0.35)
"""Of nanoGPT's tokens."""
_ROWS = 64
"""Rows that are scored at once."""


@dataclass(frozen=True)
class Setting:
    """One comparison."""

    name: str
    text: Callable[[Path], TokenFiles]
    layers: int
    width: int
    heads: int
    context: int
    sequences: int
    steps: int
    nano: dict[str, Any] = field(default_factory=dict)
    """Settings of nanoGPT's beside the shape."""
    network: dict[str, Any] = field(default_factory=lambda: {"qk_norm": True, "zero_outputs": True})
    """Settings of our network beside the shape: what ``depth`` gives."""
    learning_rate: float = 1e-2
    batch_sequences: int = 0
    """Of our steps; 0: as many as nanoGPT's."""


SETTINGS = (
    # Those of its README for a MacBook (config/train_shakespeare_char.py with these changes), with half as many steps:
    # all of this is to take half an hour on two cores.
    Setting(
        "Tiny Shakespeare, characters", shakespeare, layers=4, width=128, heads=4, context=64, sequences=12, steps=1000,
        nano={"dropout": 0.0, "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99, "warmup_iters": 100},
    ),
    Setting(
        "War and Peace, 4,096 pieces", lambda folder: war_and_peace(folder, 4096), layers=4, width=128, heads=4,
        context=128, sequences=8, steps=400,
        nano={"dropout": 0.0, "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99, "warmup_iters": 40},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """One trained model."""

    tokens: float
    seconds: float
    loss: float


def measure() -> list[Table]:
    """All seeds of both trainers in turn."""
    return [_measured(setting) for setting in SETTINGS]


def _measured(setting: Setting) -> Table:
    theirs: list[Trained] = []
    timed: list[Trained] = []
    shared: dict[float, list[Trained]] = {share: [] for share in SHARES}
    per_seed = 2.0 + sum(SHARES)  # in units of nanoGPT's time
    progress = Progress(f"learning, {setting.name}", per_seed * len(SEEDS))
    with tempfile.TemporaryDirectory(prefix="athanor-learning-") as folder:
        data = setting.text(Path(folder) / "text")
        shards = ours.imported(data, Path(folder) / "shards")
        for seed in SEEDS:
            work = Path(folder) / str(seed)
            theirs.append(_nano_gpt(setting, data, work / "nano", seed))
            progress.did(f"seed {seed}: nanoGPT {theirs[-1]}")
            for share in SHARES:
                tokens = share * theirs[-1].tokens
                shared[share].append(_ours(setting, data, shards, work / f"share-{share}", seed, tokens))
                progress.did(f"seed {seed}: {100 * share:.0f} % of the tokens {shared[share][-1]}", share)
            speed = shared[SHARES[-1]][-1].tokens / shared[SHARES[-1]][-1].seconds
            timed.append(_ours(setting, data, shards, work / "timed", seed, theirs[-1].seconds * speed))
            progress.did(f"seed {seed}: as many seconds {timed[-1]}")
    rows = [_row("nanoGPT", theirs), _row("Athanor, as many seconds", timed)]
    rows += [_row(f"Athanor, {100 * share:.0f} % of the tokens", trained) for share, trained in shared.items()]
    return Table(f"Learning: {setting.name}", _COLUMNS, rows, [_note(setting, data, _needed(theirs, shared))])


def _needed(theirs: Sequence[Trained], shared: dict[float, list[Trained]]) -> str:
    """The share of nanoGPT's tokens that reaches its loss, on average over the seeds."""
    wanted = statistics.mean(one.loss for one in theirs)
    points = [(share, statistics.mean(one.loss for one in trained)) for share, trained in sorted(shared.items())]
    reached = [(share, loss) for share, loss in points if loss <= wanted]
    if not reached:
        return f"None of the shares of the tokens reaches nanoGPT's loss of {wanted:.4f}."
    share, loss = reached[0]
    return f"{100 * share:.0f} % of nanoGPT's tokens are enough for its loss ({loss:.4f} against {wanted:.4f})."


_COLUMNS = ["trainer", "tokens", "seconds of training", "validation loss, mean", "spread (all seeds)"]


def _row(name: str, trained: Sequence[Trained]) -> list[str]:
    losses = [one.loss for one in trained]
    return [
        *(name, f"{statistics.mean(one.tokens for one in trained):,.0f}"),
        f"{statistics.mean(one.seconds for one in trained):,.0f}",
        *(f"{statistics.mean(losses):.4f}", f"{min(losses):.4f} to {max(losses):.4f}"),
    ]


def _note(setting: Setting, data: TokenFiles, needed: str) -> str:
    parameters = _shape(setting).parameters(data.vocabulary)
    return (
        f"{needed} {parameters / 1e6:.2f} million parameters each ({setting.layers} layers of width {setting.width}, "
        f"context {setting.context}), {setting.sequences} sequences a step for nanoGPT, {len(SEEDS)} seeds, float32, "
        f"{_threads()} cores. Loss: nats a token over all of the validation file, in pieces of {setting.context} "
        "from the beginning of each document, by the same function for both. The learning rates of both are those "
        "named in benchmarks/training/learning.py; nanoGPT's schedule ends at its last step, as Athanor's does. As "
        "many seconds: so many tokens as Athanor's speed in the run before gives in the seconds that nanoGPT took with "
        "this seed; what they took then is in the table."
    )


def _shape(setting: Setting) -> ModelConfig:
    shape = {"layers": setting.layers, "width": setting.width, "heads": setting.heads, "context": setting.context}
    return ModelConfig(**shape, **setting.network)


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def _nano_gpt(setting: Setting, data: TokenFiles, work: Path, seed: int) -> Trained:
    run = nano_gpt.train(
        data.folder, work, seed, _threads(),
        batch_size=setting.sequences, block_size=setting.context, n_layer=setting.layers, n_head=setting.heads,
        n_embd=setting.width, max_iters=setting.steps, lr_decay_iters=setting.steps, **setting.nano,
    )  # fmt: skip
    seconds = statistics.mean(run.step_seconds) * setting.steps
    end = _newline(data) if data.end is None else data.end
    loss = validation_loss(nano_gpt.logits_of(run.checkpoint), data.validation(), end, setting.context)
    return Trained(setting.steps * setting.sequences * setting.context, seconds, loss)


def _ours(setting: Setting, data: TokenFiles, shards: Shards, work: Path, seed: int, tokens: float) -> Trained:
    batch = (setting.batch_sequences or setting.sequences) * setting.context
    run = ours.train(
        shards, work, seed=seed, processes=1, zero_stage=1, micro=batch // setting.context,
        model=_shape(setting).model_dump(exclude_defaults=True), tokens=max(batch, int(tokens) // batch * batch),
        batch_tokens=batch, precision="fp32",
        optimizer={"name": "muon", "learning_rate": setting.learning_rate, "warmup_tokens": int(tokens) // 50},
    )  # fmt: skip
    begin = _begin(data)
    return Trained(
        run.tokens, run.seconds, validation_loss(ours.logits_of(run.model), data.validation(), begin, setting.context)
    )


def _newline(data: TokenFiles) -> int:
    """What stands before the validation text of a file that is one document: nanoGPT knows no beginning."""
    return int(data.validation()[0][0])


def _begin(data: TokenFiles) -> int:
    from transformers import AutoTokenizer

    return int(AutoTokenizer.from_pretrained(data.tokenizer).bos_token_id)


def validation_loss(logits_of: Callable[[Tensor], Tensor], documents: Sequence[Ids], begin: int, context: int) -> float:
    """Nats a token: every token of every document, predicted from those before it in its piece of ``context``.

    ``begin`` stands before each document's first token.
    """
    rows = []
    for document in documents:
        tokens = torch.from_numpy(document)
        inputs = torch.cat([torch.tensor([begin]), tokens[:-1]])
        rows += list(zip(inputs.split(context), tokens.split(context), strict=True))
    summed, predicted = 0.0, 0
    rows.sort(key=lambda row: len(row[0]))
    for first in range(0, len(rows), _ROWS):
        batch = rows[first : first + _ROWS]
        inputs_BT = torch.nn.utils.rnn.pad_sequence([row for row, _ in batch], batch_first=True)
        targets_BT = torch.nn.utils.rnn.pad_sequence([row for _, row in batch], batch_first=True, padding_value=-1)
        with torch.no_grad():
            logits_BTV = logits_of(inputs_BT)
        losses = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=-1, reduction="sum")
        summed += float(losses)
        predicted += int((targets_BT >= 0).sum())
    return summed / predicted
