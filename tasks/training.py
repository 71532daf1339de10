"""What all steps have in common that train a network in the one loop."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from model.learning.stopping import EarlyStopping, Keep
from tasks.task import Context, Task

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


def measured(summary: dict[str, Any]) -> dict[str, float]:
    """The figures of a training's summary."""
    return {name: float(value) for name, value in summary.items() if value is not None}
