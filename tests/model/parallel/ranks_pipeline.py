"""Run by ``test_pipeline.py`` on four real processes: compares pipelines with plain PyTorch on one."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.checkpoints.checkpoint import About, Checkpoints
from model.checkpoints.state import HostCopies, averaged, numbers_of, part_of, restore
from model.config import Dropout, ModelConfig
from model.data.batches import Batch, collate, share
from model.engine import Engine
from model.launching.group import join_process_group
from model.learning.objective_config import NextTokenConfig
from model.learning.objectives import Loss, NextToken, Objective
from model.learning.optimizer_config import OptimizerConfig
from model.learning.optimizers import make_optimizer, set_learning_rate
from model.network import lora
from model.network.encoder import PairEncoder
from model.network.sight import PADDING
from model.network.transformer import IGNORED, Transformer
from model.parallel.grid import Grid
from model.parallel.pipeline import keep_stage
from tests.model.ranks_zero import CONTEXT, SEQUENCES, VOCABULARY, largest_error, rows_of_step, same

STEPS, SAVED = 8, 4
NEXT = NextToken(NextTokenConfig())
ADAMW = OptimizerConfig(learning_rate=3e-3, clip_norm=0.5, average_tokens=64)
UNTIED = ModelConfig(layers=5, width=32, heads=4, kv_heads=2, context=CONTEXT, tied_embeddings=False)
TIED = UNTIED.model_copy(update={"layers": 4, "tied_embeddings": True, "positions": "learned"})
DROPPING = TIED.model_copy(update={"dropout": Dropout(embeddings=0.1, attention=0.1, residual=0.1)})


class TwoTerms:
    """The next token, and a class of each sequence: terms whose counts differ."""

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"loss": batch.predicted, "class": int((self._classes(batch) != IGNORED).sum())}

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        given = batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT
        made = network(*given, rows_B=batch.rows_B, labels_B=self._classes(batch))
        return [Loss("loss", 1.0, made[0]), Loss("class", 0.5, made[1])]

    def _classes(self, batch: Batch) -> Tensor:
        """(B); a row of padding has none."""
        return torch.where((batch.documents_BT != PADDING).any(1), batch.rows_B % 2, IGNORED)


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    shape: ModelConfig = UNTIED
    optimizer: OptimizerConfig = ADAMW
    objective: Objective = NEXT
    adapted: bool = False
    kind: type[Transformer] = Transformer

    def network(self) -> Transformer:
        made = self.kind(self.shape, VOCABULARY)
        made.initialise(7)
        if self.adapted:
            lora.inject(made, 4, 8.0, ("q_proj", "down_proj"), 3)
        return made

    def engine(self, stages: int, zero_stage: int, precision: str = "fp32", **given: Any) -> Engine:
        grid, made = Grid(pipeline=stages), self.network()
        if stages > 1:
            keep_stage(made, grid.pipeline)
        optimizer = make_optimizer(made, self.optimizer, SEQUENCES * CONTEXT)
        return Engine(made, optimizer, zero_stage, precision, self.optimizer.clip_norm, grid=grid, **given)  # type: ignore[arg-type]

    def alone(self) -> Alone:
        """By plain PyTorch, on the whole batch at once."""
        made = self.network()
        optimizer = make_optimizer(made, self.optimizer, SEQUENCES * CONTEXT)
        gradients: dict[str, Tensor] = {}
        figures, weights = [], []
        for step in range(STEPS):
            batch = collate(rows_of_step(step), CONTEXT)
            counts = self.objective.counts(batch)
            terms = self.objective.losses(made, batch)
            optimizer.zero_grad()
            torch.stack([term.weight * term.summed / counts[term.name] for term in terms]).sum().backward()
            learning = {name: weight for name, weight in made.named_parameters() if weight.requires_grad}
            gradients = gradients or {name: weight.grad.clone() for name, weight in learning.items()}  # type: ignore[union-attr]
            norm = torch.nn.utils.clip_grad_norm_(learning.values(), self.optimizer.clip_norm)
            set_learning_rate(optimizer, self.optimizer.learning_rate)
            optimizer.step()
            losses = {term.name: float(term.summed.detach()) / counts[term.name] for term in terms}
            figures.append({**losses, "norm": float(norm)})
            weights.append({name: weight.detach().clone() for name, weight in made.named_parameters()})
        return Alone(gradients, figures, weights)

    def train(self, built: Engine, start: int, stop: int) -> list[dict[str, float]]:
        made = []
        for step in range(start, stop):
            outcome = built.step(micro_batches(step, built), self.objective, self.optimizer.learning_rate)
            made.append({**outcome.losses, "norm": outcome.grad_norm})
        return made


@dataclass(frozen=True)
class Alone:
    """What one process makes of a case."""

    gradients: dict[str, Tensor]
    """Of the first step."""
    figures: list[dict[str, float]]
    """Losses and norm of every step."""
    weights: list[dict[str, Tensor]]
    """After every step."""


def micro_batches(step: int, built: Engine) -> list[Batch]:
    """One sequence at a time, so that there is something to flow."""
    rows = rows_of_step(step)
    mine = share(len(rows), built.grid.data.rank, built.grid.data.size, 1)
    return [collate(rows.take(numbers), CONTEXT, numbers.start) for numbers in mine]


def compared(case: Case, wanted: Alone, *spread: Any, **given: Any) -> dict[str, float]:
    """How far a run is from that on one process."""
    probe = case.engine(*spread, **given)
    probe.backward(micro_batches(0, probe), case.objective)
    built = case.engine(*spread, **given)
    mine = case.train(built, 0, STEPS)
    curve = max(abs(a[name] - b[name]) for a, b in zip(mine, wanted.figures, strict=True) for name in b)
    return {
        "gradient_error": largest_error(probe.gradients(), wanted.gradients),
        "curve_error": curve,
        "weight_error": largest_error(built.weights(), wanted.weights[-1]),
        "validation_error": validation_error(case, built),
        "moved": largest_error(wanted.weights[-1], wanted.weights[0]),
    }


def validation_error(case: Case, built: Engine) -> float:
    """How far the losses of the averaged weights are from those that one process finds with them."""
    with averaged(built):
        found = built.evaluate(micro_batches(STEPS, built), case.objective)
        weights = built.weights()
    alone = case.network().eval()
    alone.load_state_dict(weights, strict=case.shape.tied_embeddings is False)
    batch = collate(rows_of_step(STEPS), CONTEXT)
    with torch.no_grad():
        terms = case.objective.losses(alone, batch)
    counts = case.objective.counts(batch)
    assert {name: count for name, (_, count) in found.items()} == counts
    return max(abs(found[term.name][0] - float(term.summed)) / counts[term.name] for term in terms)


CASES: dict[str, tuple[Case, tuple[int, int], dict[str, Any]]] = {
    "untied, 2 stages x 2, ZeRO 1": (Case(), (2, 1), {}),
    "untied, 4 stages, ZeRO 1": (Case(optimizer=ADAMW.model_copy(update={"base_width": 8})), (4, 1), {}),
    "recomputed, 2 stages x 2, ZeRO 0": (Case(), (2, 0), {"recompute": True}),
    "tied, 2 stages x 2, ZeRO 1": (Case(TIED), (2, 1), {}),
    "dropout, tied, 4 stages, ZeRO 0": (Case(DROPPING), (4, 0), {}),
    "muon, 2 stages x 2, ZeRO 1": (Case(TIED, ADAMW.model_copy(update={"name": "muon"})), (2, 1), {}),
    "two terms, lamb, 2 stages x 2, ZeRO 1": (
        Case(TIED, ADAMW.model_copy(update={"name": "lamb"}), TwoTerms(), kind=PairEncoder),
        (2, 1),
        {},
    ),
    "adapters, tied, 4 stages, ZeRO 1": (Case(TIED, adapted=True), (4, 1), {}),
}

CONTINUED = (("one", "two"), ("two", "one"), ("two", "two"), ("two", "four"), ("four", "four"))


def kept(built: Engine, folder: Path) -> Path:
    """Write a checkpoint of the engine."""
    checkpoints = Checkpoints(folder, "run")
    checkpoints.begin(part_of(built, HostCopies()), About(SAVED, 0.0, numbers_of(built)))
    checkpoints.settle()
    return folder


def both_weights(built: Engine) -> dict[str, Tensor]:
    """The weights, and their averages."""
    found = built.weights()
    with averaged(built):
        return found | {f"average/{name}": weight for name, weight in built.weights().items()}


def continued(case: Case, folder: Path, spreads: dict[str, tuple[int, int]]) -> dict[str, dict[str, float]]:
    """Checkpoints of each spread over processes, opened under others and under the same."""
    folders, states, ends = {}, {}, {}
    for name, spread in spreads.items():
        built = case.engine(*spread)
        case.train(built, 0, SAVED)
        folders[name], states[name] = kept(built, folder / name), both_weights(built)
        case.train(built, SAVED, STEPS)
        ends[name] = both_weights(built)
    found = {}
    for before, after in CONTINUED:
        built = case.engine(*spreads[after])
        opened = Checkpoints(folders[before], "run").latest()
        assert opened is not None
        restore(built, opened.parts, opened.about.numbers)
        restored = same(both_weights(built), states[before])
        case.train(built, SAVED, STEPS)
        end = both_weights(built)
        found[f"{before} continued as {after}"] = {
            "restored": float(restored),
            "same_bits": float(same(end, ends[after])),
            "weight_error": largest_error(end, ends[after]),
        }
    return found


def main(output: Path) -> None:
    join_process_group("cpu")
    found: dict[str, dict[str, float]] = {}
    for name, (case, spread, given) in CASES.items():
        found[name] = compared(case, case.alone(), *spread, **given)
    wanted = Case(TIED).alone()
    for precision in ("bf16", "fp16"):
        built = Case(TIED).engine(2, 1, precision)
        mine = Case(TIED).train(built, 0, STEPS)
        errors = [abs(a["loss"] - b["loss"]) for a, b in zip(mine, wanted.figures, strict=True)]
        found[precision] = {"curve_error": max(errors), "learnt": mine[0]["loss"] - mine[-1]["loss"]}
    spreads = {"one": (1, 1), "two": (2, 1), "four": (4, 0)}
    found |= continued(Case(TIED), output.parent, spreads)
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
