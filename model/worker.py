"""One training process: ``python -m model.worker REQUEST.json``, started by torchrun (``model.launching.launch``)."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model.config import ModelConfig
from model.data.training_data import TrainingData, make_data, tokenizer_of
from model.formats.foreign import Foreign, ForeignShape
from model.launching import parent
from model.launching.failures import give_up, leave_failure
from model.launching.interface import use_interface
from model.launching.pulse import Pulse
from model.launching.stop import StopRequest
from model.learning.objective_config import SpansConfig
from model.network import float8
from model.network.encoder import PairEncoder, with_head
from model.network.transformer import Transformer
from model.request import COMPILING, NetworkFolder, RandomNetwork, Request
from storage.disk import write_json
from storage.errors import StoreCorrupted, UserError

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Checkpoint
    from model.checkpoints.keeping import BestKeeper
    from model.checkpoints.saver import Moments
    from model.data.batches import Batch
    from model.engine import Engine
    from model.learning.objectives import Objective

PLAN = "plan.json"
"""How long a run will be."""
SUMMARY = "summary.json"
"""What a finished run says about itself."""


def main(path: Path) -> None:
    """Train as the request in ``path`` says; a failure is left for the launcher to read."""
    parent.hold_on()
    request = Request.model_validate_json(path.read_text(encoding="utf-8"))
    try:
        with Pulse(request.run.hosts, partial(give_up, request.run.scratch)):
            work(request)
    except Exception as error:  # noqa: BLE001  # told by class and message to the launcher, whatever it is
        leave_failure(request.run.scratch, error)
        os._exit(1)  # at once: a process group that lost a member can hang at exit


def work(request: Request) -> None:
    """Join the run's other processes, and train."""
    use_interface(request.run.hosts)
    device = join_process_group(request.run.device)
    train_here(request, device)
    if request.run.hosts is None or request.run.hosts.launcher != "ray":  # whose process group is its own
        torch.distributed.destroy_process_group()


def train_here(request: Request, device: torch.device) -> None:
    """Train from the newest checkpoint, or from the start, and write the result; all processes must call it."""
    from model.checkpoints.checkpoint import Checkpoints
    from model.checkpoints.keeping import BestKeeper
    from model.checkpoints.saver import Saver

    if request.precision == "fp8":
        float8.check_device(device)
    torch.manual_seed(request.seed)
    data = make_data(request)
    if request.judges and not data.validation:
        raise UserError("early_stopping and keep: best measure the validation split, and this one is empty")
    network, vocabulary = make_network(request)
    checkpoints = Checkpoints(request.run.scratch / "checkpoints", request.identity)
    saved = checkpoints.latest()
    resumed, saved = saved is not None, saved or _kept_state(request)
    engine = make_engine(request, network, saved)
    best = BestKeeper(request.run.scratch, request.identity)
    with StopRequest() as stop:
        publishers = _publishers(request, engine, vocabulary, data.steps)
        saver = Saver(engine, checkpoints, request.run.checkpoint_seconds, stop, best, publishers)
        if saved is not None:
            saver.resumed(saved.about.step, own=resumed)
        outcome = _run_loop(request, engine, data, saver, saved, vocabulary, device)
    checkpoints.close()
    weights = _result_of(request, engine, best, outcome)
    if engine.rank == 0:
        write_result(request, request.run.output, weights, vocabulary)
        parameters = sum(weight.numel() for weight in weights.values())
        write_json(request.run.scratch / SUMMARY, {**outcome, **data.facts, "parameters": parameters})
    torch.distributed.barrier()


def _result_of(request: Request, engine: Engine, best: BestKeeper, outcome: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that become the result, whole. All processes must call it."""
    from model.checkpoints.checkpoint import Checkpoints
    from model.checkpoints.publishing import weights_in
    from model.checkpoints.state import averaged

    if request.keep == "best" and outcome["best_step"] != outcome["steps"]:
        place = best.of(outcome["best_step"])
        kept = Checkpoints(place, request.identity).latest()
        if kept is None:
            raise StoreCorrupted(f"{place}: the best weights are not there whole; `--rebuild` the step")
        return weights_in(kept.parts, engine.shapes())
    with averaged(engine):
        return engine.weights(trainable_only=request.adapter is not None)


def join_process_group(device: str) -> torch.device:
    """Join the processes that torchrun started; returns this one's device."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # DeepSpeed calls what torch is about to rename
    sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]  # DeepSpeed imports it where it finds it: 2 s
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if on_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    elif not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; say device: cpu")
    import deepspeed

    # Its shared-memory all-reduce serves inference alone, and would have to be compiled.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if on_cpu:
        deepspeed.init_distributed("gloo")
        return torch.device("cpu")
    here, number = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    if number >= here:
        raise UserError(f"processes: more of them here than GPUs ({here}): lower resources processes, or device: cpu")
    device_of_rank = torch.device("cuda", number)
    torch.cuda.set_device(device_of_rank)
    deepspeed.init_distributed("nccl")
    return device_of_rank


def make_network(request: Request) -> tuple[Transformer | Foreign, int]:
    """The network to begin with (adapters included), and the size of its vocabulary."""
    from model.formats import huggingface
    from model.learning.optimizers import initialise_for_width

    source = request.network
    network: Transformer | Foreign
    if isinstance(source, RandomNetwork):
        network = (PairEncoder if request.pairs else Transformer)(source.shape, source.vocabulary)
        network.initialise(request.seed)
        initialise_for_width(network, request.optimizer, source.shape.width)
    else:
        opened = huggingface.load(source.opened.folder)
        network = opened if isinstance(opened, Foreign) else with_head(opened, request.pairs, request.seed)
    if isinstance(network, Transformer):
        network.model.noise_seed = request.seed
    if request.adapter is not None:
        from model.network import lora

        lora.inject(network, request.adapter.rank, request.adapter.alpha, request.adapter.targets, request.seed)
    return network, network.vocabulary


def make_engine(request: Request, network: Transformer | Foreign, saved: Any) -> Engine:
    """The engine around the network, in the state of the checkpoint if there is one."""
    from model.checkpoints.state import restore
    from model.engine import Engine
    from model.learning.optimizers import make_optimizer
    from model.parallel.grid import Grid
    from model.parallel.pipeline import keep_stage
    from model.planning.fit import check, check_foreign

    run = request.run
    shape = network.shape if isinstance(network, Transformer) else None
    try:
        if isinstance(network, Foreign):
            check_foreign(run, request.precision)
        check(
            run, request.precision, request.optimizer.name, shape, request.context, request.pairs,
            adapted=request.adapter.targets if request.adapter else (),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"resources: {error}") from error
    grid = Grid(pipeline=run.pipeline_processes, sequence=run.sequence_processes, tensor=run.tensor_processes)
    if run.pipeline_processes > 1:
        assert isinstance(network, Transformer), "others are refused above"
        keep_stage(network, grid.pipeline)
    optimizer = make_optimizer(network, request.optimizer.for_batch(request.batch_tokens), request.batch_tokens)
    engine = Engine(
        network, optimizer, run.zero_stage, request.precision, request.optimizer.clip_norm,
        offload=run.offload, offload_folder=Path(run.offload_folder or run.scratch / "offload"),
        recompute=run.recompute, compiled=run.compile, grid=grid,
    )  # fmt: skip
    if saved:
        restore(engine, saved.parts, saved.about.numbers)
    return engine


def _run_loop(
    request: Request, engine: Engine, data: TrainingData, saver: Any, saved: Any, vocabulary: int, device: torch.device
) -> dict[str, Any]:  # fmt: skip
    """Train; what there is to say of it."""
    from model.learning.objectives import make_objective
    from model.learning.schedule import learning_rate
    from model.loop import Loop, Plan, measured_peak
    from model.recorder import Recorder

    optimizer, run = request.optimizer.for_batch(request.batch_tokens), request.run
    flops = _shape_of(request).flops_per_token(vocabulary, request.context)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(request.precision, torch.bfloat16)
    if engine.rank == 0:
        write_json(run.scratch / PLAN, {"steps": data.steps, "tokens": data.steps * request.batch_tokens})
    plan = Plan(
        steps=data.steps,
        batch_sequences=request.batch_sequences,
        micro_batch_sequences=run.micro_batch_sequences,
        context=request.context,
        evaluate_every=_evaluate_every(request, data.steps),
        early_stopping=request.early_stopping,
        keeps_best=request.keep == "best",
        learning_rate=partial(learning_rate, optimizer=optimizer, total=data.steps * request.batch_tokens),
        skip_spikes=optimizer.skip_spikes,
        # With adapters, the gradients of the network's own weights are not needed.
        flops_per_token=flops * (2 / 3 if request.adapter else 1),
        peak_flops=measured_peak(device, dtype) * engine.processes,
    )
    start = saved.about.step if saved else 0
    shape = _shape_of(request)
    balance = shape.experts_balance if isinstance(shape, ModelConfig) and shape.experts is not None else None
    objective = make_objective(request.objective, tokenizer_of(request), request.seed, balance)
    recorder = Recorder(run.metrics_file, start) if engine.rank == 0 else None
    loop = Loop(engine, objective, data.order, data.validation, plan, saver, recorder)
    if saved:
        loop.memory.update(saved.about.memory)
    compiling = 0.0
    if run.compile and start < data.steps:
        compiling = _compile(engine, loop.batches(start + 1), objective, run.scratch / COMPILING)
    outcome = loop.run(start, saved.about.loss) if saved else loop.run(start)
    told = asdict(outcome) | {"tokens": outcome.steps * request.batch_tokens}
    if run.compile:
        told["compile_seconds"] = compiling
    told["flops_utilization"] = outcome.tokens_per_second * plan.flops_per_token / plan.peak_flops
    best = told.pop("best")
    if request.judges and best is not None:
        told |= {"planned_steps": data.steps, "best_step": best[0], "best_validation_loss": best[1]}
    if request.keep == "best" and best is not None:
        told["validation_loss"] = best[1]
    return told


def _compile(engine: Engine, batches: Sequence[Batch], objective: Objective, told: Path) -> float:
    """Compile the network, and let the launcher know while it lasts; the seconds that it took.

    All processes must call it.
    """
    began = time.monotonic()
    if engine.rank == 0:
        told.touch()
    engine.compile(batches, objective)
    if engine.rank == 0:
        told.unlink()
    return time.monotonic() - began


def _evaluate_every(request: Request, steps: int) -> int:
    """Steps between evaluations; 0: never."""
    if request.evaluate_every is not None:
        return math.ceil(request.evaluate_every / request.batch_tokens)
    return math.ceil(steps / request.run.evaluations) if request.run.evaluations else 0


def _kept_state(request: Request) -> Checkpoint | None:
    """The state of a shorter run to begin with, if there is one to continue from."""
    from model.checkpoints.checkpoint import Checkpoints
    from model.checkpoints.stem import stem_of

    folder = request.run.continues
    if folder is None:
        return None
    steps, stem = stem_of(request)
    found = Checkpoints(folder, stem).latest()
    if found is None or found.about.step > steps:
        raise StoreCorrupted(f"{folder}: holds no state that this run can continue from; `--rebuild` the step instead")
    return found


def _publishers(request: Request, engine: Engine, vocabulary: int, steps: int) -> list[Moments]:
    """What is made of moments of the run: models, and the state that longer runs can continue from."""
    from model.checkpoints.keeping import StateKeeper
    from model.checkpoints.publishing import Publisher
    from model.checkpoints.stem import stem_of

    run = request.run
    found: list[Moments] = []
    if run.publish_every is not None:
        every = math.ceil(run.publish_every / request.batch_tokens)
        write = partial(_write_published, request, vocabulary)
        found.append(Publisher(run.scratch, every, request.batch_tokens, engine.shapes(), write, steps))
    if run.keep_state:
        stem_steps, stem = stem_of(request)
        found.append(StateKeeper(run.scratch, stem_steps, request.batch_tokens, stem))
    return found


def _write_published(request: Request, vocabulary: int, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """A model on the way, with the files that belong to it."""
    write_result(request, folder, weights, vocabulary)
    if request.run.published_with is not None:
        shutil.copytree(request.run.published_with, folder, dirs_exist_ok=True)


def write_result(request: Request, output: Path, weights: dict[str, torch.Tensor], vocabulary: int) -> None:
    """The trained model as a Hugging Face folder, or the adapter as PEFT's, without tokenizer files."""
    adapter = request.adapter
    if adapter is not None:
        from model.formats import adapters

        found = adapters.adapter_state(weights)
        adapters.save(output, found, adapter.rank, adapter.alpha, adapter.targets)
        return
    from model.formats import foreign, huggingface

    special, shape = request.special_tokens, _shape_of(request)
    if isinstance(shape, ForeignShape):
        assert isinstance(request.network, NetworkFolder)
        foreign.write(output, request.network.opened.folder, weights)
        return
    huggingface.write(
        output, shape, vocabulary, weights, special.bos, special.eos, special.pad, special.mask,
        fills_gaps=isinstance(request.objective, SpansConfig),
    )  # fmt: skip


def _shape_of(request: Request) -> ModelConfig | ForeignShape:
    if isinstance(request.network, RandomNetwork):
        return request.network.shape
    from model.formats import huggingface

    return huggingface.shape_in(request.network.opened.folder)[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
