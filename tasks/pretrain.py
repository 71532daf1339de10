"""Train a language model on token shards, from random weights."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from model.config import ModelConfig, Precision
from model.optimizer_config import OptimizerConfig
from model.scaling import recommended
from storage.artifact import Model, copy_folder
from storage.errors import SourceError, UserError
from storage.shards import Shards
from tasks.task import Context, Input, Kind, Result, Settings, Task


class MixturePart(Settings):
    """One part of the data: ``{shards: web, weight: 0.8}``."""

    shards: Input[Shards]
    """Token shards; those of a mixture must have been made with the same tokenizer."""
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Its share of the training sequences, relative to the other parts' weights, at every moment of the training."""


def _filled_in_when_left_out(schema: dict[str, Any]) -> None:
    """In the JSON schema: what ``Pretrain`` fills in by itself is not required."""
    schema["required"] = [name for name in schema["required"] if name not in ("tokens", "batch_tokens")]


class Pretrain(Task):
    """Train a Llama-like network to predict the next token."""

    model_config = ConfigDict(json_schema_extra=_filled_in_when_left_out)

    makes: ClassVar[Kind] = Model
    libraries: ClassVar[tuple[str, ...]] = (
        *("deepspeed", "peft", "safetensors", "sentencepiece", "tokenizers", "torch"),
    )
    also_runs: ClassVar[tuple[str, ...]] = ("model.worker",)
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    data: Input[Shards] | list[MixturePart]
    """Token shards, or a mixture of several: ``[{shards: web, weight: 0.8}, {shards: code, weight: 0.2}]``."""
    model: ModelConfig
    """Shape of the network."""
    shuffle_tokens: int | None = Field(None, ge=1)
    """Shuffle blocks of about so many tokens instead of all data together: for shards at a remote store that the local
    disk is not to hold all at once. While one block is trained on, the next is fetched."""
    tokens: int = Field(ge=1)
    """Tokens to train on, rounded up to whole batches; more than the data hold means several passes. Default: 20 for
    each weight of the network's blocks."""
    batch_tokens: int = Field(ge=2)
    """Tokens of a step, over all processes: a multiple of the context. Accumulation follows from the resources.
    Default: what ``model.scaling`` recommends for so many tokens."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights follow from gradients. The default of its learning rate (with a warm-up over 2 % of the tokens) is
    what ``model.scaling`` recommends for the network and the tokens."""
    precision: Precision = "fp32"
    """Arithmetic of the network: fp32, bf16 or fp16 (weights and sums stay in float32)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Tokens, batch and learning rate where they are left out, so that they are part of the settings."""
        try:
            shape = ModelConfig.model_validate(given["model"])
            advice = recommended(shape, given.get("tokens"))
        except (KeyError, TypeError, ValueError, ValidationError):
            return given  # refused, with the reason, by the fields themselves
        filled = {"tokens": advice.tokens, "batch_tokens": advice.batch_tokens, **given}
        optimizer = given.get("optimizer", {})
        if isinstance(optimizer, dict) and "learning_rate" not in optimizer:
            rate = {"learning_rate": advice.learning_rate, "warmup_tokens": advice.warmup_tokens}
            filled["optimizer"] = {**rate, **optimizer}
        return filled

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.data, list) and not self.data:
            raise ValueError("data: a mixture needs at least one part")
        if self.batch_tokens % self.model.context:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of the model's context {self.model.context}"
            )
        self.optimizer.check_length(self.tokens)
        return self

    def run(self, context: Context) -> Result:
        """Train, and write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` open.

        Raises UserError for shards of different tokenizers, SourceError for an empty training
        split, StepFailed for a loss that is not finite, TrainingFailed if a process dies.
        """
        from model import launch
        from model.request import Opened, RandomNetwork, Request, ShardsData, ShardsPart, SpecialTokens

        parts = self.data if isinstance(self.data, list) else [MixturePart(shards=self.data, weight=1.0)]
        opened = [context.open(part.shards) for part in parts]
        _check_shards(parts, opened)
        tokenizer = opened[0].tokenizer
        request = Request(
            network=RandomNetwork(shape=self.model, vocabulary=tokenizer.vocab_size),
            data=ShardsData(
                parts=tuple(
                    ShardsPart(shards=Opened.of(shards), weight=part.weight)
                    for part, shards in zip(parts, opened, strict=True)
                ),
                shuffle_tokens=self.shuffle_tokens,
            ),
            context=self.model.context,
            batch_tokens=self.batch_tokens,
            tokens=self.tokens,
            optimizer=self.optimizer,
            precision=self.precision,
            special_tokens=SpecialTokens(bos=tokenizer.bos_id, eos=tokenizer.eos_id, pad=tokenizer.pad_id),
            seed=context.seed,
            run=launch.run_of(context),
        )
        summary = launch.train(request, context.progress, context.lock_fds)
        copy_folder(tokenizer, context.output)
        return _result(summary)


def _check_shards(parts: list[MixturePart], opened: list[Shards]) -> None:
    for part, shards in zip(parts, opened, strict=True):
        if shards.tokenizer.digest != opened[0].tokenizer.digest:
            first, other = parts[0].shards.name, part.shards.name
            raise UserError(f"data: {first} and {other} were made with different tokenizers: one model needs one")
        if shards.split("train").tokens == 0:
            raise SourceError(f"data: the training split of {part.shards.name} is empty: give more documents")


def _result(summary: dict[str, float | None]) -> Result:
    measured = {name: float(value) for name, value in summary.items() if value is not None}
    validation = summary.get("validation_loss")
    headline = f"validation loss {validation:.3f}" if validation is not None else f"loss {summary['loss']:.3f}"
    return Result(metrics=measured, headline=headline)
