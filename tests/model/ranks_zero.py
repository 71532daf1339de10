"""Run by ``test_engine.py`` on two real processes: compares every ZeRO stage with plain PyTorch on one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import model.parallel.zero
from model.checkpoints.checkpoint import About, Checkpoints
from model.checkpoints.layout import shape_of
from model.checkpoints.state import HostCopies, numbers_of, part_of, restore
from model.config import ModelConfig
from model.data.batches import Batch, Sequences, Text, TextRows, collate, share
from model.engine import Engine
from model.launching.group import join_process_group
from model.learning.objective_config import NextTokenConfig
from model.learning.objectives import NextToken
from model.learning.optimizer_config import OptimizerConfig
from model.learning.optimizers import make_optimizer
from model.network.transformer import Transformer
from model.parallel.grid import Grid

CONTEXT, VOCABULARY, SEQUENCES = 16, 67, 5
SAVED, COMPARED, STEPS = 10, 15, 50
SHAPE = ModelConfig(layers=1, width=32, heads=4, kv_heads=2, context=CONTEXT)
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, clip_norm=0.5)
model.parallel.zero.HOST_GROUP = 2_000  # several of them
model.parallel.zero.CPU_BUCKET = 1_500  # some gradients fit a bucket, and some are larger than one


def network() -> Transformer:
    made = Transformer(SHAPE, VOCABULARY)
    made.initialise(7)
    return made


def rows_of_step(step: int) -> Sequences:
    """Five sequences, full and nearly empty, so that counts per process and micro-batch differ widely."""
    random = np.random.default_rng(step)
    texts = [Text(random.integers(0, VOCABULARY, length + 1) // 3) for length in (16, 3, 9, 14, 16, 2, 12)]
    rows = TextRows(texts, CONTEXT)
    assert len(rows) == SEQUENCES
    return rows.read(np.arange(SEQUENCES))


def reference(steps: int, config: OptimizerConfig) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Gradient of the first step and losses of all, by plain PyTorch on the whole batch at once."""
    made = network()
    optimizer = make_optimizer(made, config)
    gradients, losses = {}, []
    for step in range(steps):
        batch = collate(rows_of_step(step), CONTEXT)
        logits = made(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            gradients = {name: weight.grad.clone() for name, weight in made.named_parameters()}
        torch.nn.utils.clip_grad_norm_(made.parameters(), OPTIMIZER.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return gradients, losses


def micro_batches(step: int, built: Engine) -> list[Batch]:
    rows, data = rows_of_step(step), built.grid.data
    return [collate(rows.take(mine), CONTEXT) for mine in share(len(rows), data.rank, data.size, 2)]


def saved(built: Engine, folder: Path) -> Path:
    """Write a checkpoint of the engine."""
    checkpoints = Checkpoints(folder, "run")
    checkpoints.begin(part_of(built, HostCopies(built.disk)), About(SAVED, 0.0, numbers_of(built)))
    checkpoints.settle()
    return folder


def whole_state(built: Engine) -> dict[str, torch.Tensor]:
    """Weights and moments, gathered from all processes."""
    found = built.weights()
    for name, weight in built.layout.trainable.items():
        size = int(np.prod(shape_of(weight)))
        for kind in sorted(built.optimizer.state[built.layout.flat_of(weight)].keys() - {"step"}):
            whole = torch.zeros(size)
            for part in built.layout.fragments(weight):
                moment = built.optimizer.state[part.flat][kind].flatten()
                place = whole[part.weight_start : part.weight_start + part.length]
                place.copy_(moment[part.flat_start : part.flat_start + part.length])
            if built.layout.cut:
                whole = whole.to(built.device)  # NCCL takes no others
                dist.all_reduce(whole)
            found[f"{kind}/{name}"] = whole.cpu()
    return found


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def engine(
    stage: int, state: Path | None = None, precision: str = "fp32", config: OptimizerConfig = OPTIMIZER, **spread: Any
) -> Engine:
    made = network()
    grid = Grid(sequence=spread.pop("sequence", 1), tensor=spread.pop("tensor", 1))
    built = Engine(made, make_optimizer(made, config), stage, precision, config.clip_norm, grid=grid, **spread)
    if state:
        kept = Checkpoints(state, "run").latest()
        assert kept is not None
        restore(built, kept.parts, kept.about.numbers)
    return built


def train(built: Engine, start: int, stop: int) -> list[float]:
    return [
        built.step(micro_batches(step, built), NextToken(NextTokenConfig()), OPTIMIZER.learning_rate).losses["loss"]
        for step in range(start, stop)
    ]


def largest_error(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm().clamp(1e-30)) for name in wanted)


def compared(
    stage: int, spread: dict[str, Any], gradients: dict[str, torch.Tensor], losses: list[float]
) -> dict[str, float]:
    """How far the first gradient and the first losses are from those of one process."""
    probe = engine(stage, **spread)
    probe.backward(micro_batches(0, probe), NextToken(NextTokenConfig()))
    error = largest_error(probe.gradients(), gradients)
    mine = train(engine(stage, **spread), 0, SAVED)
    return {"gradient_error": error, "curve_error": max(abs(a - b) for a, b in zip(mine, losses, strict=False))}


def of_experts(stage: int) -> dict[str, float]:
    """The same with experts, whose even use counts too; on one process they are run one position at a time."""
    shape = SHAPE.model_copy(update={"experts": 5, "experts_balance": 0.3})
    whole, mine = Transformer(shape, VOCABULARY), Transformer(shape, VOCABULARY)
    whole.initialise(7)
    mine.load_state_dict(whole.state_dict())
    batch = collate(rows_of_step(0), CONTEXT)
    where = (batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    loss = torch.nn.functional.cross_entropy(whole(*where).flatten(0, 1), batch.targets_BT.flatten())
    uneven = whole(*where, batch.targets_BT, balance=True)[1] / batch.predicted
    (loss + 0.3 * uneven).backward()
    wanted = {name: weight.grad for name, weight in whole.named_parameters()}
    built = Engine(mine, make_optimizer(mine, OPTIMIZER), stage, "fp32", 0.5, grid=Grid(), recompute=stage == 2)
    objective = NextToken(NextTokenConfig(), balance=0.3)
    told = built.backward(micro_batches(0, built), objective)
    return {
        "gradient_error": largest_error(built.gradients(), wanted),
        "loss_error": abs(told["loss"] - float(loss)) + abs(told["expert_balance"] - float(uneven)),
        "uneven": float(uneven),
    }


def on_disk(stage: int, folder: Path) -> dict[str, float]:
    """Whether all that the optimiser updates lies in files, and the numbers are those of the host's memory."""
    config = OPTIMIZER.model_copy(update={"average_tokens": 3})
    engines = [
        engine(stage, config=config, offload="cpu"),
        engine(stage, config=config, offload="nvme", offload_folder=folder / "disk"),
    ]
    curves = [train(built, 0, SAVED) for built in engines]
    built = engines[1]
    flats = built.layout.flat_tensors()
    places = [x.data_ptr() for x in flats] + [built.optimizer.state[x][kind].data_ptr() for x in flats for kind in
              ("exp_avg", "exp_avg_sq", "average")]  # fmt: skip
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(folder / "disk") in line]
    files = [range(*(int(end, 16) for end in line[0].split("-"))) for line in mapped]
    state, kept = whole_state(built), saved(built, folder / f"nvme-{stage}")
    again = engine(stage, kept, config=config, offload="nvme", offload_folder=folder / "disk")
    restored = same(whole_state(again), state)
    rest = [train(one, SAVED, COMPARED) for one in (built, again)]
    return {
        "as_in_memory": float(curves[0] == curves[1] and same(state, whole_state(engines[0]))),
        "in_files": float(all(any(place in file for file in files) for place in places)),
        "pieces": float(len(flats)),
        "names_left": float(len(list((folder / "disk").iterdir()))),
        "restored": float(restored and rest[0] == rest[1]),
    }


def numbers_of_layers(stage: int, precision: str, device: str) -> list[str]:
    """The kinds of numbers that products with matrices gave in a step, where DeepSpeed looks for autocast of GPUs."""
    built, told = engine(stage, None, precision), torch.is_autocast_enabled
    found: set[str] = set()
    for module in built.network.modules():
        if isinstance(module, torch.nn.Linear) and module.bias is None and module is not built.network.lm_head:
            module.register_forward_hook(lambda module, given, made: found.add(str(made.dtype)))
    torch.is_autocast_enabled = lambda kind=device: told(kind)  # type: ignore[assignment]
    train(built, 0, 1)
    built.evaluate(micro_batches(0, built), NextToken(NextTokenConfig()))
    torch.is_autocast_enabled = told
    return sorted(found)


def main(output: Path) -> None:
    from tests.model import ranks_loss_scale
    from tests.model.learning import ranks_optimizers

    join_process_group("cpu")
    gradients, losses = reference(STEPS, OPTIMIZER)
    curve = losses
    found: dict[str, dict[str, float]] = {}
    folders, states, later = {}, {}, {}
    for stage in (0, 1, 2, 3):
        probe = engine(stage)
        probe.backward(micro_batches(0, probe), NextToken(NextTokenConfig()))
        gradient_error = largest_error(probe.gradients(), gradients)
        built = engine(stage)
        mine = train(built, 0, SAVED)
        folders[stage], states[stage] = saved(built, output.parent / f"zero-{stage}"), whole_state(built)
        mine += train(built, SAVED, COMPARED)
        later[stage] = built.weights()
        mine += train(built, COMPARED, STEPS)
        found[f"zero {stage}"] = {
            "gradient_error": gradient_error,
            "curve_error": max(abs(a - b) for a, b in zip(mine, losses, strict=True)),
            "improvement": mine[0] - mine[-1],
        }
    for kept, opened in ((0, 3), (3, 1), (1, 1), (2, 2), (3, 3), (2, 0)):
        built = engine(opened, folders[kept])
        restored = same(whole_state(built), states[kept])
        train(built, SAVED, COMPARED)
        final = built.weights()
        found[f"{kept} continued as {opened}"] = {
            "restored": float(restored),
            "weight_error": largest_error(final, later[opened]),
            "same_bits": float(all(torch.equal(final[name], later[opened][name]) for name in final)),
        }
    for precision in ("bf16", "fp16", "fp8"):
        mine = train(engine(1, None, precision), 0, SAVED)
        found[precision] = {"curve_error": max(abs(a - b) for a, b in zip(mine, losses, strict=False))}
    numbers = {p: [numbers_of_layers(stage, p, "cpu") for stage in (0, 1, 2, 3)] for p in ("fp32", "bf16")}
    numbers["fp16"] = [numbers_of_layers(stage, "fp16", "cpu") for stage in (1, 2, 3)]
    spreads: dict[str, dict[str, Any]] = {
        "offload": {"offload": "cpu"}, "recompute": {"recompute": True},
        "sequence": {"sequence": 2}, "tensor": {"tensor": 2},
    }  # fmt: skip
    for name, spread in spreads.items():
        for stage in (1, 3) if name == "offload" else (0, 3):
            found[f"{name} {stage}"] = compared(stage, spread, gradients, curve)
    for stage in (1, 2, 3):
        found[f"nvme {stage}"] = on_disk(stage, output.parent)
    for stage in (0, 1, 2, 3):
        found[f"experts {stage}"] = of_experts(stage)
    for stage in (1, 2, 3):
        found[f"overflow {stage}"] = ranks_loss_scale.after_an_overflow(stage)
        found[f"loss scale {stage}"] = ranks_loss_scale.followed(stage, output.parent / f"loss-scale-{stage}")
    optimizers = ranks_optimizers.compared(output.parent)
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found | optimizers | {"numbers": numbers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
