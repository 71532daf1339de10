"""What a training begins with: the network, the engine around it, and the state to continue from."""

from __future__ import annotations

from pathlib import Path

from model.checkpoints.checkpoint import Checkpoint, Checkpoints
from model.checkpoints.state import restore
from model.checkpoints.stem import stem_of
from model.engine import Engine
from model.formats import huggingface
from model.formats.foreign import Foreign
from model.learning.optimizers import initialise_for_width, make_optimizer
from model.network import lora
from model.network.encoder import PairEncoder, with_head
from model.network.transformer import Transformer
from model.parallel.grid import Grid
from model.parallel.pipeline import keep_stage
from model.planning.fit import check, check_foreign
from model.request import RandomNetwork, Request
from storage.errors import StoreCorrupted, UserError


def make_network(request: Request) -> tuple[Transformer | Foreign, int]:
    """The network to begin with (adapters included), and the size of its vocabulary."""
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
        lora.inject(network, request.adapter.rank, request.adapter.alpha, request.adapter.targets, request.seed)
    return network, network.vocabulary


def make_engine(request: Request, network: Transformer | Foreign, saved: Checkpoint | None) -> Engine:
    """The engine around the network, in the state of the checkpoint if there is one."""
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


def kept_state(request: Request) -> Checkpoint | None:
    """The state of a shorter run to begin with, if there is one to continue from."""
    folder = request.run.continues
    if folder is None:
        return None
    steps, stem = stem_of(request)
    found = Checkpoints(folder, stem).latest()
    if found is None or found.about.step > steps:
        raise StoreCorrupted(f"{folder}: holds no state that this run can continue from; `--rebuild` the step instead")
    return found
