"""Tune a model on prompts and their responses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from model.config import Precision
from model.learning.objective_config import NextTokenConfig
from model.learning.optimizer_config import OptimizerConfig
from model.planning import fit
from model.planning.memory import Adapters
from storage.artifact import Adapter, Artifact, Model, copy_folder, include
from storage.corpus import Examples, read_table
from storage.errors import SourceError
from tasks.known import Known
from tasks.starting import sequence_length
from tasks.task import Context, Input, Kind, Resources, Result
from tasks.training import Planned, PlannedNetwork, Training, measured

if TYPE_CHECKING:
    from model.request import Request, Run
    from storage.tokenizer import Tokenizer

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR_LAYERS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""All matrices of a block: attention's alone do worse (Dettmers et al. 2023, figure 2)."""


_COUNTED = 1_000
"""Examples whose tokens are counted to foretell those of all."""


class Finetune(Training):
    """Tune a model to answer: only the tokens of the responses are learnt."""

    makes: ClassVar[Kind] = Adapter

    model: Input[Model | Adapter]
    """The model to tune; an adapter is merged into its base first."""
    examples: Input[Examples]
    """Prompts and responses: the training split is learnt, the validation split measured."""
    method: Literal["lora", "full"] = "lora"
    """``lora`` trains low-rank adapters and leaves the model's own weights alone; ``full`` trains all weights."""
    rank: int = Field(8, ge=1)
    """Rank of the adapters' matrices."""
    alpha: float | None = Field(None, gt=0)
    """Adapters are scaled by alpha / rank; default: twice the rank."""
    targets: tuple[str, ...] = Field(LINEAR_LAYERS, min_length=1)
    """Names of the linear layers that get adapters. Those of a network that ours cannot be have other names: there all
    linear layers are the default, but for the output layer. Experts get none."""
    merge: bool = False
    """Whether to make a model with the adapter merged into its weights, instead of an adapter."""
    epochs: float = Field(3.0, gt=0)
    """Passes over the training examples."""
    batch_tokens: int = Field(4_096, ge=2)
    """Positions of the global batch of a step: a multiple of ``context``."""
    context: int | None = Field(None, ge=2)
    """Tokens of a packed sequence; default: the model's context, or ``batch_tokens`` if that is less."""
    objective: NextTokenConfig = NextTokenConfig()
    """What may be added to the loss: ``{label_smoothing: 0.1}``."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-3, warmup_tokens=10_000, weight_decay=0.0)
    """How weights follow from gradients. The default suits adapters on small models; others want a lower rate."""
    precision: Precision = "fp32"
    """Arithmetic of the network: fp32, bf16 or fp16 (weights and sums stay in float32)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "full" and self.merge:
            raise ValueError("merge: method full makes a whole model already")
        if self.method == "lora" and self.optimizer.base_width is not None:
            raise ValueError("optimizer.base_width: adapters do not widen with the network; leave it out")
        return self

    def kind(self) -> Kind:
        return Adapter if self.method == "lora" and not self.merge else Model

    def goes_on_with(self) -> Input[Any] | None:
        return self.model

    def planned(self, network: PlannedNetwork, known: Known) -> Planned:
        by_experts = network.shape.experts is not None and "targets" not in self.model_fields_set
        adapters = Adapters(self.rank, ATTENTION if by_experts else self.targets) if self.method == "lora" else None
        tokens = self._tokens(known)
        return Planned(tokens, self.batch_tokens, self.context, self.optimizer, self.precision, adapters)

    def _tokens(self, known: Known) -> int | None:
        """About how many it is trained on, if the model's tokenizer and the examples are there to count them."""
        start, examples = known.folder_of(self.model), known.folder_of(self.examples)
        if start is None or examples is None or not (examples / "train.parquet").is_file():
            return None
        from model.formats import huggingface

        rows = read_table(examples / "train.parquet")
        few = rows.slice(0, _COUNTED)  # in the order of ids, which are digests: any are as good as others
        tokenizer = huggingface.tokenizer_in(start)
        counted = sum(len(tokenizer.encode_columns(few[column])[0]) for column in ("prompt", "response"))
        counted += 2 * few.num_rows  # the beginning and the end
        tokens: float = self.epochs * counted * rows.num_rows / max(1, few.num_rows)
        return max(1, math.ceil(tokens))

    def check_network(self, folder: Path, resources: Resources) -> None:
        fit.check_folder(resources, self.precision, folder)

    def check_resources(self, resources: Resources) -> None:
        adapted = self.targets if self.method == "lora" else ()
        fit.check(resources, self.precision, self.optimizer.name, None, self.context, adapted=adapted)

    def run(self, context: Context) -> Result:
        """Tune, and write an adapter folder with its base below ``base/``, or a whole model.

        Raises UserError for settings that do not fit the model, SourceError for an empty training
        split, StepFailed for a loss that is not finite, TrainingFailed if a process dies.
        """
        from model.formats import huggingface
        from model.launching import launch

        start = context.open(self.model)
        tokenizer = huggingface.tokenizer_of(start)
        request = self.request(context)
        summary = launch.train(request, context.progress, context.lock_fds)
        if self.merge:
            write_merged(context.output, start, request.run.output, tokenizer)
        elif self.method == "lora":
            add_base(context.output, start, tokenizer)
        copy_folder(tokenizer, context.output)
        return self._result(summary)

    def _result(self, summary: dict[str, Any]) -> Result:
        validation = summary.get("validation_loss")
        said = f"perplexity {math.exp(validation):.1f}" if validation is not None else f"loss {summary['loss']:.3f}"
        return Result(metrics=measured(summary), headline=f"answers' {said}{self.ending(summary)}")

    def request(self, context: Context) -> Request:
        """What the training processes are asked to do; raises as ``run`` does."""
        from model.formats import huggingface
        from model.launching import launch

        start, examples = context.open(self.model), context.open(self.examples)
        if examples.split("train").num_rows == 0:
            raise SourceError("examples: the training split is empty: give more examples")
        trained = context.scratch / "adapter" if self.merge else context.output
        run = launch.run_of(context).model_copy(
            update={"output": trained.absolute(), "record_every": self.record_every}
        )
        return self._request(start, examples, huggingface.tokenizer_of(start), context.seed, run)

    def _request(
        self, start: Model | Adapter, examples: Examples, tokenizer: Tokenizer, seed: int, run: Run
    ) -> Request:
        from model.formats import foreign, huggingface
        from model.request import ExamplesData, LoraSettings, NetworkFolder, Opened, Request, SpecialTokens

        alpha = 2.0 * self.rank if self.alpha is None else self.alpha
        targets = self.targets
        shape, _ = huggingface.shape_in(start.folder)
        if "targets" not in self.model_fields_set:
            if isinstance(shape, foreign.ForeignShape):
                targets = foreign.linear_layers(huggingface.base_of(start.folder))
            elif shape.experts is not None:
                targets = ATTENTION
        lora = LoraSettings(rank=self.rank, alpha=alpha, targets=targets)
        return Request(
            network=NetworkFolder(opened=Opened.of(start)),
            adapter=lora if self.method == "lora" else None,
            data=ExamplesData(examples=Opened.of(examples), tokenizer=Opened.of(tokenizer)),
            objective=self.objective,
            context=sequence_length(start, self.context, self.batch_tokens, tokenizer),
            batch_tokens=self.batch_tokens,
            epochs=self.epochs,
            **self.evaluations(),
            optimizer=self.optimizer,
            precision=self.precision,
            special_tokens=SpecialTokens(bos=tokenizer.bos_id, eos=tokenizer.eos_id, pad=tokenizer.pad_id),
            seed=seed,
            run=run,
        )


def write_merged(output: Path, start: Artifact, adapter: Path, tokenizer: Tokenizer) -> None:
    """The model ``start`` with the adapter folder added to its weights."""
    from model.formats import adapters, foreign, huggingface

    if huggingface.is_foreign(start.folder):
        foreign.write_merged(output, start.folder, adapter)
        return
    shape, vocabulary, weights = huggingface.read(start.folder)
    adapters.merge_into(weights, adapter)
    huggingface.write(output, shape, vocabulary, weights, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)


def add_base(output: Path, start: Artifact, tokenizer: Tokenizer) -> None:
    """What the adapter in ``output`` adapts, below ``base/``: linked, or merged where it is itself an adapter."""
    from model.formats import foreign, huggingface

    if huggingface.base_of(start.folder) == start.folder:
        include(output, "base", start)
        return
    if huggingface.is_foreign(start.folder):
        foreign.write_merged(output / "base", start.folder)
        copy_folder(tokenizer, output / "base")
        return
    shape, vocabulary, weights = huggingface.read(start.folder)
    base = output / "base"
    huggingface.write(base, shape, vocabulary, weights, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    copy_folder(tokenizer, base)
