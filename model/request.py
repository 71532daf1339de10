"""What a training run is asked to do: written by a task, read by every training process. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from model.config import Frozen, ModelConfig, Precision
from model.learning.objective_config import MaskedConfig, NextTokenConfig, ObjectiveConfig
from model.learning.optimizer_config import OptimizerConfig
from model.learning.stopping import EarlyStopping, Keep
from model.parallel.spread import Spread
from storage.artifact import Artifact, Manifest
from storage.identity import digest_of_value

PUBLISHED = "published"
"""Folder in a run's scratch with a model folder for each moment, and beside it ``NAME.json`` once it is whole."""
KEPT = "kept"
"""Likewise with the state that a longer run can continue from."""
PLAN = "plan.json"
"""File in a run's scratch that says how long it will be."""
SUMMARY = "summary.json"
"""File in a run's scratch with what there is to say of it, once it has finished."""
COMPILING = "compiling"
"""File in a run's scratch that is there while its network is compiled."""


class Opened(Frozen):
    """An artifact as training processes open it again, without digesting its files."""

    folder: Path
    manifest: Manifest

    @classmethod
    def of(cls, artifact: Artifact) -> Opened:
        return cls(folder=artifact.folder, manifest=artifact.manifest)


class RandomNetwork(Frozen):
    """A network to begin with, of random weights."""

    shape: ModelConfig
    vocabulary: int = Field(ge=2)


class NetworkFolder(Frozen):
    """A network to begin with, from a model folder (or an adapter's, merged into its base)."""

    opened: Opened


class LoraSettings(Frozen):
    """Train low-rank adapters and leave the network's own weights alone."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    targets: tuple[str, ...]
    """Names of the linear layers that are adapted: ``q_proj`` …"""


class ShardsPart(Frozen):
    """One part of a mixture."""

    shards: Opened
    weight: float = Field(ge=0)
    """In the first stage; 0: it comes later only."""
    max_epochs: float | None = Field(None, gt=0)
    """Passes over it at most, in all stages together."""
    called: str = ""
    """What its losses are recorded by; shapes nothing."""


class LaterStage(Frozen):
    """A mixture of its own at the end of a training."""

    share: float = Field(gt=0, lt=1)
    """Of all tokens."""
    weights: tuple[float, ...]
    """Of all parts; 0: not drawn from."""


class ShardsData(Frozen):
    """Documents from token shards, in proportion to the weights."""

    parts: tuple[ShardsPart, ...] = Field(min_length=1)
    later: tuple[LaterStage, ...] = ()
    """What follows the first stage."""
    shuffle_tokens: int | None = Field(None, ge=1)
    """Tokens of a block that is shuffled by itself; None: each part as a whole."""


class ExamplesData(Frozen):
    """Prompts and responses; the loss is on the responses."""

    examples: Opened
    tokenizer: Opened


class SpecialTokens(Frozen):
    """Ids that the written model's configuration names."""

    bos: int
    eos: int
    pad: int | None
    mask: int | None = None
    sentinels: tuple[int, ...] = ()
    """Those that stand for gaps, where the objective makes gaps; no part of a model's configuration."""


class Run(Spread):
    """Where and how fast it runs, and with which files."""

    scratch: Path
    """Checkpoints and logs."""
    metrics_file: Path
    output: Path
    """Where the trained model (or adapter) is written, in Hugging Face's (or PEFT's) form, without tokenizer files."""
    compiled: Path | None = None
    """Folder of what was compiled, to be found again by later runs; None: the scratch."""
    checkpoint_seconds: float = Field(20.0, ge=0)
    """Time between checkpoints; also the most that a kill can cost."""
    publish_every: int | None = Field(None, ge=1)
    """Tokens between models that are published while training goes on, rounded up to whole steps; None: none."""
    published_with: Path | None = None
    """Folder of files that belong to a published model: its tokenizer's."""
    record_every: int | None = Field(None, ge=1)
    """Tokens between records of figures, rounded up to whole steps; None: about 2,000 records in all."""
    keep_state: bool = False
    """Whether the state at the end of the run's stem (see ``model.checkpoints.stem``) is kept in its scratch."""
    continues: Path | None = None
    """Folder of the kept state of a shorter run, to begin with where there is no checkpoint."""
    evaluations: int = Field(5, ge=0)
    """How often the validation loss is measured on the way, where ``evaluate_every`` does not say it."""


class Request(Frozen):
    """A training run."""

    network: RandomNetwork | NetworkFolder
    adapter: LoraSettings | None = None
    data: ShardsData | ExamplesData
    objective: ObjectiveConfig = NextTokenConfig()
    context: int = Field(ge=2)
    """Tokens of a sequence."""
    batch_tokens: int = Field(ge=2)
    """Positions of the global batch of a step; a multiple of ``context``."""
    tokens: int | None = Field(None, ge=1)
    """Positions to train on, rounded up to whole batches; or ``epochs``."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training split, rounded up to whole batches; or ``tokens``."""
    evaluate_every: int | None = Field(None, ge=1)
    """Tokens between measurements of the validation loss, rounded up to whole steps; None: see ``Run.evaluations``."""
    early_stopping: EarlyStopping | None = None
    keep: Keep = "last"
    optimizer: OptimizerConfig
    precision: Precision = "fp32"
    special_tokens: SpecialTokens
    seed: int
    run: Run

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tokens is None) == (self.epochs is None):
            raise ValueError("give either tokens or epochs")
        if self.batch_tokens % self.context:
            raise ValueError(f"batch_tokens {self.batch_tokens} is not a multiple of context {self.context}")
        if self.judges and self.evaluate_every is None:
            raise ValueError("early_stopping and keep: best need evaluate_every")
        return self

    @property
    def batch_sequences(self) -> int:
        return self.batch_tokens // self.context

    @property
    def pairs(self) -> bool:
        """Whether it is trained on pairs of segments."""
        return isinstance(self.objective, MaskedConfig) and self.objective.next_sentence

    @property
    def judges(self) -> bool:
        """Whether the validation loss shapes the result."""
        return self.early_stopping is not None or self.keep == "best"

    @property
    def identity(self) -> str:
        """Digest of what shapes the result: a checkpoint of another identity is not continued."""
        return digest_of_value(self.described())

    def described(self) -> dict[str, Any]:
        """All that shapes the result, as JSON: no places, and nothing of how it runs."""
        found: dict[str, Any] = _without_folders(self.model_dump(mode="json", exclude={"run"}))
        return found


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items() if name not in ("folder", "called")}
    return [_without_folders(item) for item in value] if isinstance(value, list) else value
