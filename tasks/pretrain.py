"""Train a language model or an encoder on token shards, from random weights or from where another model ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from model.config import ModelConfig, Precision
from model.learning.objective_config import MaskedConfig, NextTokenConfig, ObjectiveConfig, SpansConfig
from model.learning.optimizer_config import OptimizerConfig
from model.planning import fit
from model.planning.scaling import recommended
from storage.artifact import Adapter, Artifact, Model, Network, copy_folder
from storage.errors import UserError
from storage.shards import Shards
from storage.tokenizer import MASK_NAMES, Tokenizer, sentinels_in
from tasks.known import Known
from tasks.mixtures import MixturePart, Stage, check_shards, mixtures, shards_data, smallest_bounds
from tasks.objectives import check_context, check_direction, lacking
from tasks.starting import REWARMED, check_same_tokenizer, sequence_length
from tasks.stem import Stem
from tasks.task import Context, Input, Kind, Outside, Resources, Result, Task
from tasks.training import Planned, PlannedNetwork, Training, measured

if TYPE_CHECKING:
    from model.request import NetworkFolder, RandomNetwork, Request


def _filled_in_when_left_out(schema: dict[str, Any]) -> None:
    """In the JSON schema: what ``Pretrain`` fills in by itself is not required."""
    schema["required"] = [name for name in schema["required"] if name not in ("tokens", "batch_tokens")]


class Pretrain(Training):
    """Train a network on token shards: to predict the next token, to fill gaps, or as an encoder to find hidden ones.

    An encoder is an artifact of the kind ``network``, which ``AutoModelForMaskedLM`` opens.
    """

    model_config = ConfigDict(json_schema_extra=_filled_in_when_left_out)

    makes: ClassVar[Kind] = Model

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
    keep_state: Annotated[bool, Outside()] = True
    """Whether the state from which a run of more ``tokens`` could continue is kept (``RECIPE/STEP.state``; about three
    times the weights): after the last step with a ``constant`` learning rate, where it begins to fall with
    ``stable_decay``, and no later than the first stage ends. No part of the key."""
    objective: ObjectiveConfig = NextTokenConfig()
    """What is learnt: ``next_token``, ``masked``, ``spans``, or one of them with settings."""
    shuffle_tokens: int | None = Field(None, ge=1)
    """Shuffle blocks of about so many tokens instead of all data together: for shards at a remote store that the local
    disk is not to hold all at once. While one block is trained on, the next is fetched."""
    tokens: int = Field(ge=1)
    """Tokens to train on, rounded up to whole batches; more than the data hold means several passes. Default: 20 for
    each weight of the network's blocks."""
    batch_tokens: int = Field(ge=2)
    """Tokens of a step, over all processes: a multiple of the context. Accumulation follows from the resources.
    Default: what ``model.planning.scaling`` recommends for so many tokens."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights follow from gradients. The default of its learning rate (with a warm-up over 2 % of the tokens) is
    what ``model.planning.scaling`` recommends for the network and the tokens. With ``start``, the rate is 1e-3 by
    default, and rises again over 1 % of the tokens."""
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
        if not all(mixtures(self.data, self.stages)):
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
            check_direction(self.objective, self.model)
        if (length := self._length()) is not None:
            check_context(self.objective, length)
        if isinstance(self.objective, MaskedConfig) and self.objective.next_sentence and self.shuffle_tokens:
            raise ValueError("shuffle_tokens: next_sentence draws segments from all documents; leave it out")
        self._optimizer().check_length(self.tokens)
        return self

    def network(self, known: Known) -> PlannedNetwork | None:
        if self.model is None:
            return super().network(known)
        maker = known.maker_of(self._parts()[0].shards)
        tokenizer = maker.inputs().get("tokenizer") if maker is not None else None
        trained = known.maker_of(tokenizer) if tokenizer is not None else None
        vocabulary = getattr(trained, "vocab_size", None)
        return PlannedNetwork(self.model, vocabulary) if vocabulary is not None else None

    def planned(self, network: PlannedNetwork, known: Known) -> Planned:
        return Planned(self.tokens, self.batch_tokens, self._length(), self._optimizer(), self.precision)

    def goes_on_with(self) -> Input[Any] | None:
        return self.start

    def check_network(self, folder: Path, resources: Resources) -> None:
        fit.check_folder(resources, self.precision, folder)

    def check_resources(self, resources: Resources) -> None:
        pairs = isinstance(self.objective, MaskedConfig) and self.objective.next_sentence
        fit.check(resources, self.precision, self.optimizer.name, self.model, self._length(), pairs)

    def stem(self, inputs: Mapping[str, str]) -> Stem:
        from model.checkpoints.stem import stem_steps, without_fall

        optimizer = self._optimizer()
        steps = stem_steps(optimizer, self.tokens, self.batch_tokens, [stage.share for stage in self.stages])
        settings = {name: value for name, value in self.settings().items() if name not in ("tokens", "stages")}
        if self.early_stopping is None and self.keep == "last":
            settings.pop("evaluate_every")
        mine = {slot: digest for slot, digest in inputs.items() if not slot.startswith("stages[")}
        digests = {reference: inputs[slot] for slot, reference in self.inputs().items()}
        bounds = smallest_bounds(self._parts(), [digests[part.shards] for part in self._parts()])
        settings |= {
            "optimizer": without_fall(settings["optimizer"]),
            "max_epochs": {digest: bound for digest, bound in bounds.items() if digest in mine.values()},
        }
        falls = (
            f"the learning rate falls from the warm-up on with schedule {optimizer.schedule}; only constant and "
            "stable_decay can be continued"
        )
        return Stem(steps, self.batch_tokens, settings, mine, "" if steps else falls)

    def kind(self) -> Kind:
        return Network if isinstance(self.objective, MaskedConfig) else Model

    def check_makers(self, maker_of: Callable[[Input[Any]], Task | None]) -> None:
        masked = isinstance(self.objective, MaskedConfig)
        maker = maker_of(self.start) if self.start is not None else None
        if self.start is not None and maker is not None and issubclass(maker.kind(), Network) != masked:
            wanted = "an encoder" if masked else "a model that predicts the next token"
            raise ValueError(f"start: step {self.start.name!r} does not make {wanted}, as this objective needs")
        for shards in (part.shards for part in self._parts()):
            maker = maker_of(shards)
            tokenizer = maker.inputs().get("tokenizer") if maker is not None else None
            trained = maker_of(tokenizer) if tokenizer is not None else None
            names = getattr(trained, "special_names", None)
            if tokenizer is None or names is None:
                continue
            sentinels = len(sentinels_in(dict.fromkeys(names, 0)))
            if lack := lacking(self.objective, bool(set(names) & set(MASK_NAMES)), sentinels, self._length()):
                raise ValueError(
                    f"objective {self.objective.name}: the tokenizer of {shards.name!r} {lack[0]}; "
                    f"say {lack[1]} in step {tokenizer.name!r}"
                )

    def _length(self) -> int | None:
        """Tokens of a training sequence; None where the model to continue with tells."""
        return self.context if self.model is None else self.model.context

    def _parts(self) -> list[MixturePart]:
        """Of all stages, one after the other."""
        return [part for mixture in mixtures(self.data, self.stages) for part in mixture]

    def _optimizer(self) -> OptimizerConfig:
        """Whose learning rate falls in the last stage, where nothing else is said."""
        if not self.stages or self.optimizer.schedule != "stable_decay" or self.optimizer.decay_share is not None:
            return self.optimizer
        return self.optimizer.model_copy(update={"decay_share": self.stages[-1].share})

    def run(self, context: Context) -> Result:
        """Train, and write a folder that ``AutoModelForCausalLM`` (or ``…ForMaskedLM``) and ``AutoTokenizer`` open.

        Raises UserError for shards of different tokenizers or another one than the model's, SourceError for an
        empty training split, StepFailed for a loss that is not finite, TrainingFailed if a process dies.
        """
        from model.launching import launch

        summary = launch.train(self.request(context), context.progress, context.lock_fds)
        copy_folder(context.open(self._parts()[0].shards).tokenizer, context.output)
        return self._result(summary)

    def request(self, context: Context) -> Request:
        """What the training processes are asked to do; raises as ``run`` does."""
        parts = self._parts()
        opened = [context.open(part.shards) for part in parts]
        check_shards(parts, opened)
        tokenizer = opened[0].tokenizer
        start = context.open(self.start) if self.start is not None else None
        return self._request(start, opened, tokenizer, context)

    def _check_special(self, tokenizer: Tokenizer, context: int) -> None:
        """UserError for a tokenizer that lacks special tokens which the objective needs."""
        lack = lacking(self.objective, tokenizer.mask_id is not None, len(tokenizer.sentinel_ids), context)
        if lack is not None:
            raise UserError(
                f"data: objective {self.objective.name}: the tokenizer of {self._parts()[0].shards.name} {lack[0]}: "
                f"train one with {lack[1]}, or name a folder whose tokenizer has such special tokens"
            )

    def _result(self, summary: dict[str, Any]) -> Result:
        validation = summary.get("validation_loss")
        headline = f"validation loss {validation:.3f}" if validation is not None else f"loss {summary['loss']:.3f}"
        return Result(metrics=measured(summary), headline=headline + self.ending(summary))

    def _request(self, start: Artifact | None, opened: list[Shards], tokenizer: Tokenizer, context: Context) -> Request:
        from model.launching import launch
        from model.request import Request, SpecialTokens

        network, length = self._network(start, tokenizer)
        self._check_special(tokenizer, length)
        fills = isinstance(self.objective, SpansConfig)
        return Request(
            network=network,
            data=shards_data(self.data, self.stages, opened, self.shuffle_tokens),
            objective=self.objective,
            context=length,
            batch_tokens=self.batch_tokens,
            tokens=self.tokens,
            **self.evaluations(),
            optimizer=self._optimizer(),
            precision=self.precision,
            special_tokens=SpecialTokens(
                bos=tokenizer.bos_id,
                eos=tokenizer.eos_id,
                pad=tokenizer.pad_id,
                mask=tokenizer.mask_id,
                sentinels=tuple(tokenizer.sentinel_ids) if fills else (),
            ),
            seed=context.seed,
            run=launch.run_of(context).model_copy(
                update={
                    "record_every": self.record_every,
                    "keep_state": self.keep_state,
                    "continues": context.state.folder.absolute() if context.state is not None else None,
                    **self._publishing(tokenizer, context),
                }
            ),
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
            check_direction(self.objective, huggingface.shape_in(start.folder)[0])
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
