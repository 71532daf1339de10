"""What all steps have in common that train a network in the one loop."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from model.config import ModelConfig, Precision
from model.formats import families
from model.learning.optimizer_config import OptimizerConfig
from model.learning.stopping import EarlyStopping, Keep
from model.planning import fit
from model.planning.estimate import estimate, said
from model.planning.memory import Adapters
from storage.errors import UserError
from tasks.inputs import Input
from tasks.known import Known
from tasks.task import Context, Outside, Resources, Task

if TYPE_CHECKING:
    from model.request import Request


class Training(Task):
    """Trains a network: the settings of when it is measured, when it ends and what is kept."""

    libraries: ClassVar[tuple[str, ...]] = (
        *("deepspeed", "peft", "safetensors", "sentencepiece", "tokenizers", "torch", "transformers"),
    )
    also_runs: ClassVar[tuple[str, ...]] = ("model.worker",)
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    evaluate_every: int | None = Field(None, ge=1)
    """Tokens between measurements of the validation loss, rounded up to whole steps; None: five in all. Each source is
    measured on two batches at most, or on 32,768 tokens where that is more and the loss decides (``early_stopping``,
    ``keep: best``)."""
    record_every: Annotated[int | None, Outside()] = Field(None, ge=1)
    """Tokens between records of the loss and what else is watched, rounded up to whole steps; None: 2,000 to 4,000
    records of a long run, and every step of a shorter one. No part of the key."""
    early_stopping: EarlyStopping | None = None
    """When to end before the last token: ``{patience: 3, min_delta: 0.01}``; needs ``evaluate_every``."""
    keep: Keep = "last"
    """Which weights become the result: the ``last``, or the ``best``, of the evaluation with the lowest loss, which
    needs ``evaluate_every``."""

    @abstractmethod
    def request(self, context: Context) -> Request:
        """What the training processes are asked to do."""

    @model_validator(mode="after")
    def _check_evaluations(self) -> Self:
        if self.evaluate_every is None and (self.early_stopping is not None or self.keep == "best"):
            name = "early_stopping" if self.early_stopping is not None else "keep: best"
            raise ValueError(f"{name} needs evaluate_every: the tokens between two measurements of the validation loss")
        return self

    def evaluations(self) -> dict[str, Any]:
        """The settings of evaluations as ``model.request.Request`` has them."""
        return {"evaluate_every": self.evaluate_every, "early_stopping": self.early_stopping, "keep": self.keep}

    @abstractmethod
    def planned(self, network: PlannedNetwork, known: Known) -> Planned:
        """What is asked of a training of this network."""

    def network(self, known: Known) -> PlannedNetwork | None:
        """The network to train; None where the size of its vocabulary is not known. Raises Unforetold."""
        reference = self.goes_on_with()
        return network_of(reference, known) if reference is not None else None

    def forecast(self, resources: Resources, known: Known) -> tuple[dict[str, Any], str] | None:
        try:
            network = self.network(known)
            if network is None:
                raise Unforetold("not foretold: the size of the vocabulary is not known before the shards are read")
            asked = self.planned(network, known)
            asked.check(network.shape, resources)
        except (Unforetold, UserError) as error:
            return {"unknown": str(error)}, str(error)
        found = estimate(
            network.shape, network.vocabulary, asked.tokens or 0, asked.precision, asked.optimizer, resources,
            asked.batch_tokens, context=asked.context or min(network.shape.context, asked.batch_tokens),
            adapters=asked.adapters,
        )  # fmt: skip
        described = found.as_json(asked.precision)
        if asked.tokens is None:
            described["unknown"] = "the time is foretold when the model and the examples are built"
        return described, said(described)

    def ending(self, summary: dict[str, Any]) -> str:
        """When it ended, and why, and which weights it kept, where that was not simply the end."""
        said = ""
        if self.keep == "best" and summary["best_step"] != summary["steps"]:
            said = f", the lowest, after step {summary['best_step']:,}"
        if self.early_stopping is not None and summary["steps"] < summary["planned_steps"]:
            rule = self.early_stopping
            less = f"by {rule.min_delta:g} " if rule.min_delta else ""
            said += f"; stopped after step {summary['steps']:,} of {summary['planned_steps']:,}: no lower {less}in "
            said += f"{rule.patience} evaluation{'s' if rule.patience > 1 else ''}"
        return said


class Unforetold(Exception):
    """Why it is not known what a training will take."""


@dataclass(frozen=True)
class PlannedNetwork:
    """What is known of a network before it is opened."""

    shape: ModelConfig
    vocabulary: int


@dataclass(frozen=True)
class Planned:
    """What is asked of a training."""

    tokens: int | None
    """None: not known yet."""
    batch_tokens: int
    context: int | None
    """Of a training sequence; None: the network's, or ``batch_tokens`` if less."""
    optimizer: OptimizerConfig
    precision: Precision
    adapters: Adapters | None = None

    def check(self, shape: ModelConfig, resources: Resources) -> None:
        """Raise Unforetold for resources on which such a network cannot be trained."""
        adapted = self.adapters.targets if self.adapters is not None else ()
        try:
            fit.check(resources, self.precision, self.optimizer.name, shape, self.context, adapted=adapted)
        except ValueError as error:
            raise Unforetold(f"cannot run on its resources: {error}") from error


def network_of(reference: Input[Any], known: Known) -> PlannedNetwork:
    """The network in a model or adapter, as it is or as the recipe will make it. Raises Unforetold."""
    folder, maker = known.folder_of(reference), known.maker_of(reference)
    if folder is not None:
        described = fit.described_in(folder)
        if described is None or not families.can_be(described):
            raise Unforetold(f"not foretold: the network in {reference.name!r} is not one that ours can be")
        return PlannedNetwork(*families.shape_of(folder / "config.json", described))
    found = maker.network(known) if isinstance(maker, Training) else None
    if found is None:
        raise Unforetold(f"foretold when {reference.name!r} is built")
    return found


def measured(summary: dict[str, Any]) -> dict[str, float]:
    """The figures of a training's summary."""
    return {name: float(value) for name, value in summary.items() if value is not None}
