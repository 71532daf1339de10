"""Train a language model or an encoder on token shards, from random weights or from where another model ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from model import fit
from model.config import ModelConfig, Precision
from model.estimate import estimate, said
from model.learning.objective_config import MaskedConfig, NextTokenConfig, ObjectiveConfig
from model.learning.optimizer_config import OptimizerConfig
from model.scaling import recommended
from storage.artifact import Adapter, Artifact, Model, Network, copy_folder
from storage.errors import SourceError, UserError
from storage.shards import Shards
from storage.tokenizer import MASK_NAMES, Tokenizer
from tasks.starting import REWARMED, check_same_tokenizer, sequence_length
from tasks.task import Context, Input, Kind, Outside, Resources, Result, Settings, Task

if TYPE_CHECKING:
    from model.formats.foreign import ForeignShape
    from model.request import NetworkFolder, RandomNetwork, Request, ShardsData

_LEAST_PAIR = 16
"""Positions of a sequence of two segments, at least."""


class MixturePart(Settings):
    """One part of the data: ``{shards: web, weight: 0.8}``."""

    shards: Input[Shards]
    """Token shards; those of a mixture must have been made with the same tokenizer."""
    weight: float = Field(gt=0, allow_inf_nan=False)
    """Its share of the training sequences, relative to the other parts' weights, at every moment of the training."""
    max_epochs: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Passes over it at most, in all stages together; from then on the others share in their proportions. Where it is
    given twice, the smaller counts. None: any number."""


class Stage(Settings):
    """The end of a training, on a mixture of its own: ``{data: [{shards: best, weight: 1}], share: 0.1}``."""

    data: Input[Shards] | list[MixturePart]
    """Token shards, or a mixture; those that came before go on where they were, so that nothing is seen twice."""
    share: float = Field(gt=0, lt=1)
    """Of all tokens."""


def _filled_in_when_left_out(schema: dict[str, Any]) -> None:
    """In the JSON schema: what ``Pretrain`` fills in by itself is not required."""
    schema["required"] = [name for name in schema["required"] if name not in ("tokens", "batch_tokens")]


class Pretrain(Task):
    """Train a network on token shards: to predict the next token, or as an encoder to find hidden ones.

    An encoder is an artifact of the kind ``network``, which ``AutoModelForMaskedLM`` opens.
    """

    model_config = ConfigDict(json_schema_extra=_filled_in_when_left_out)

    makes: ClassVar[Kind] = Model
    libraries: ClassVar[tuple[str, ...]] = (
        *("deepspeed", "peft", "safetensors", "sentencepiece", "tokenizers", "torch", "transformers"),
    )
    also_runs: ClassVar[tuple[str, ...]] = ("model.worker",)
    uses_seed: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    data: Input[Shards] | list[MixturePart]
    """Token shards, or a mixture of several: ``[{shards: web, weight: 0.8}, {shards: code, weight: 0.2}]``."""
    stages: list[Stage] = Field(default_factory=list)
    """What follows ``data``, to the end, one after the other; ``data`` has the share that they leave."""
    model: ModelConfig | None = None
    """Shape of a new network of random weights; or ``start``."""
    start: Input[Model | Adapter | Network] | None = None
    """The model to continue with: a step, or ``{path: FOLDER}``; its tokenizer must be that of the shards. So that
    little is forgotten, let a part of the mixture replay what it was trained on (5 % is much)."""
    context: int | None = Field(None, ge=2)
    """With ``start``: tokens of a training sequence; default: the model's context, or ``batch_tokens`` if less."""
    publish_every: Annotated[int | None, Outside()] = Field(None, ge=1)
    """Tokens after which the model as it is then becomes an artifact of its own, again and again while training goes
    on: ``RECIPE/STEP.partial``. No part of the key."""
    objective: ObjectiveConfig = NextTokenConfig()
    """What is learnt: ``next_token``, ``masked``, or one of them with settings."""
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
    what ``model.scaling`` recommends for the network and the tokens. With ``start``, the rate is 1e-3 by default, and
    rises again over 1 % of the tokens."""
    precision: Precision = "fp32"
    """Arithmetic of the network: fp32, bf16 or fp16 (weights and sums stay in float32)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Tokens, batch and learning rate where they are left out, so that they are part of the settings."""
        if isinstance(given, dict) and given.get("start") is not None:
            return _rewarmed(given)
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
        if not all(self._mixtures()):
            raise ValueError("data: a mixture needs at least one part")
        if (later := sum(stage.share for stage in self.stages)) >= 1:
            raise ValueError(f"stages: their shares add up to {later:g}, which leaves nothing for data; lower them")
        if (self.model is None) == (self.start is None):
            raise ValueError("give either model (the shape of a new network) or start (the model to continue with)")
        if self.model is not None:
            if self.context is not None:
                raise ValueError("context: it goes with start; a new network's is model.context")
            if self.batch_tokens % self.model.context:
                raise ValueError(
                    f"batch_tokens {self.batch_tokens} is not a multiple of the model's context {self.model.context}"
                )
            _check_direction(self.objective, self.model)
        if isinstance(self.objective, MaskedConfig) and self.objective.next_sentence:
            if self.shuffle_tokens is not None:
                raise ValueError("shuffle_tokens: next_sentence draws segments from all documents; leave it out")
            if (length := self.context or (self.model and self.model.context)) and length < _LEAST_PAIR:
                raise ValueError(
                    f"objective: two segments do not fit a context of {length}; take {_LEAST_PAIR} or more"
                )
        self._optimizer().check_length(self.tokens)
        return self

    def forecast(
        self, resources: Resources, maker_of: Callable[[Input[Any]], Task | None]
    ) -> tuple[dict[str, Any], str] | None:
        maker = maker_of(self._parts()[0].shards)
        tokenizer = maker.inputs().get("tokenizer") if maker is not None else None
        trained = maker_of(tokenizer) if tokenizer is not None else None
        vocabulary = getattr(trained, "vocab_size", None)
        if self.model is None or vocabulary is None:
            return None
        found = estimate(
            self.model, vocabulary, self.tokens, self.precision, self.optimizer, resources, self.batch_tokens
        )
        described = found.as_json(self.precision)
        return described, said(described)

    def check_resources(self, resources: Resources) -> None:
        pairs = isinstance(self.objective, MaskedConfig) and self.objective.next_sentence
        context = self.context if self.model is None else self.context or self.model.context
        fit.check(resources, self.precision, self.optimizer.name, self.model, context, pairs)

    def kind(self) -> Kind:
        return Network if isinstance(self.objective, MaskedConfig) else Model

    def check_makers(self, maker_of: Callable[[Input[Any]], Task | None]) -> None:
        masked = isinstance(self.objective, MaskedConfig)
        maker = maker_of(self.start) if self.start is not None else None
        if self.start is not None and maker is not None and issubclass(maker.kind(), Network) != masked:
            wanted = "an encoder" if masked else "a model that predicts the next token"
            raise ValueError(f"start: step {self.start.name!r} does not make {wanted}, as this objective needs")
        for shards in (part.shards for part in self._parts() if masked):
            maker = maker_of(shards)
            tokenizer = maker.inputs().get("tokenizer") if maker is not None else None
            trained = maker_of(tokenizer) if tokenizer is not None else None
            names = getattr(trained, "special_tokens", None)
            if tokenizer is not None and names is not None and not set(names) & set(MASK_NAMES):
                raise ValueError(
                    f"objective masked: the tokenizer of {shards.name!r} has no mask token; "
                    f"say special_tokens: ['<mask>'] in step {tokenizer.name!r}"
                )

    def _mixtures(self) -> list[list[MixturePart]]:
        """Of every stage."""
        given = [self.data, *(stage.data for stage in self.stages)]
        return [data if isinstance(data, list) else [MixturePart(shards=data, weight=1.0)] for data in given]

    def _parts(self) -> list[MixturePart]:
        """Of all stages, one after the other."""
        return [part for mixture in self._mixtures() for part in mixture]

    def _optimizer(self) -> OptimizerConfig:
        """Whose learning rate falls in the last stage, where nothing else is said."""
        if not self.stages or self.optimizer.decay_share is not None:
            return self.optimizer
        return self.optimizer.model_copy(update={"decay_share": self.stages[-1].share})

    def _data(self, opened: list[Shards]) -> ShardsData:
        """Every part once, with its weights in all stages; ``opened`` as ``_parts``."""
        from model.request import LaterStage, Opened, ShardsData, ShardsPart

        shards = {found.digest: found for found in opened}
        digests = iter([found.digest for found in opened])
        stages: list[dict[str, float]] = []
        passes: dict[str, float] = {}
        names: dict[str, str] = {}
        for mixture in self._mixtures():
            weights = dict.fromkeys(shards, 0.0)
            for part, digest in zip(mixture, digests, strict=False):
                weights[digest] += part.weight
                names.setdefault(digest, part.shards.name)
                if part.max_epochs is not None:
                    passes[digest] = min(part.max_epochs, passes.get(digest, part.max_epochs))
            stages.append(weights)
        first, *later = stages
        return ShardsData(
            parts=tuple(
                ShardsPart(
                    shards=Opened.of(found),
                    weight=first[digest],
                    max_epochs=passes.get(digest),
                    called=names[digest],
                )
                for digest, found in shards.items()
            ),
            later=tuple(
                LaterStage(share=stage.share, weights=tuple(weights.values()))
                for stage, weights in zip(self.stages, later, strict=True)
            ),
            shuffle_tokens=self.shuffle_tokens,
        )

    def run(self, context: Context) -> Result:
        """Train, and write a folder that ``AutoModelForCausalLM`` (or ``…ForMaskedLM``) and ``AutoTokenizer`` open.

        Raises UserError for shards of different tokenizers or another one than the model's, SourceError for an
        empty training split, StepFailed for a loss that is not finite, TrainingFailed if a process dies.
        """
        from model.launching import launch

        parts = self._parts()
        opened = [context.open(part.shards) for part in parts]
        _check_shards(parts, opened)
        tokenizer = opened[0].tokenizer
        if isinstance(self.objective, MaskedConfig) and tokenizer.mask_id is None:
            raise UserError(
                f"data: the tokenizer of {parts[0].shards.name} has no mask token, which objective masked needs: train "
                "one with special_tokens: ['<mask>'], or name a folder whose tokenizer_config.json has a mask_token"
            )
        start = context.open(self.start) if self.start is not None else None
        summary = launch.train(self._request(start, opened, tokenizer, context), context.progress, context.lock_fds)
        copy_folder(tokenizer, context.output)
        return _result(summary)

    def _request(self, start: Artifact | None, opened: list[Shards], tokenizer: Tokenizer, context: Context) -> Request:
        from model.launching import launch
        from model.request import Request, SpecialTokens

        network, length = self._network(start, tokenizer)
        return Request(
            network=network,
            data=self._data(opened),
            objective=self.objective,
            context=length,
            batch_tokens=self.batch_tokens,
            tokens=self.tokens,
            optimizer=self._optimizer(),
            precision=self.precision,
            special_tokens=SpecialTokens(
                bos=tokenizer.bos_id, eos=tokenizer.eos_id, pad=tokenizer.pad_id, mask=tokenizer.mask_id
            ),
            seed=context.seed,
            run=launch.run_of(context).model_copy(update=self._publishing(tokenizer, context)),
        )

    def _publishing(self, tokenizer: Tokenizer, context: Context) -> dict[str, Any]:
        """What models that are published on the way need."""
        if self.publish_every is None:
            return {}
        beside = (context.scratch / "published-with").absolute()
        copy_folder(tokenizer, beside)
        return {"publish_every": self.publish_every, "published_with": beside}

    def _network(self, start: Artifact | None, tokenizer: Tokenizer) -> tuple[RandomNetwork | NetworkFolder, int]:
        """What to begin with, and the tokens of a training sequence."""
        from model.formats import huggingface
        from model.request import NetworkFolder, Opened, RandomNetwork

        if start is None:
            assert self.model is not None
            return RandomNetwork(shape=self.model, vocabulary=tokenizer.vocab_size), self.model.context
        assert self.start is not None
        check_same_tokenizer(start, tokenizer, self.start.name, self._parts()[0].shards.name)
        try:
            _check_direction(self.objective, huggingface.shape_in(start.folder)[0])
        except ValueError as error:
            raise UserError(f"start: {self.start.name}: {error}") from error
        return NetworkFolder(opened=Opened.of(start)), sequence_length(
            start, self.context, self.batch_tokens, tokenizer
        )


def _rewarmed(given: dict[str, Any]) -> dict[str, Any]:
    """The settings with a warm-up, where one is left out."""
    optimizer, tokens = given.get("optimizer", {}), given.get("tokens")
    if isinstance(optimizer, OptimizerConfig):
        optimizer = optimizer.model_dump(exclude_unset=True)
    if not isinstance(optimizer, dict) or not isinstance(tokens, int) or "warmup_tokens" in optimizer:
        return given
    return {**given, "optimizer": {**optimizer, "warmup_tokens": tokens // REWARMED}}


def _check_direction(objective: NextTokenConfig | MaskedConfig, shape: ModelConfig | ForeignShape) -> None:
    """ValueError for an objective that the direction of the network's attention makes trivial or impossible."""
    wanted = "bidirectional" if isinstance(objective, MaskedConfig) else "causal"
    if shape.attention != wanted:
        raise ValueError(f"objective {objective.name} needs attention: {wanted}; the model's is {shape.attention}")


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
