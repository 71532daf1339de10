"""Measure models on held-out text, beside n-gram baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from storage.artifact import Adapter, Artifact, Model, Report
from storage.corpus import Examples
from storage.errors import StepFailed, UserError
from storage.shards import Shards
from tasks.measures.baselines import Ngram
from tasks.measures.score import Score
from tasks.task import Context, Input, Kind, Resources, Result, Sample, Task

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer
    from tasks.measures.held_out import HeldOut

BASELINES = {"unigram": 1, "trigram": 3}
"""Name in the report → order of the n-grams."""
FIGURES = {"loss": "loss (nats/token)", "perplexity": "perplexity", "bits_per_byte": "bits/byte", "tokens": "tokens"}
SAMPLE_TOKENS = 80
OPENING_TOKENS = 24
"""Of a document, given as a prompt where there are no examples."""
_FILLS_GAPS = (
    "{} fills gaps and has not learnt to predict a whole text, so its perplexity says nothing: look at the validation "
    "loss of its training, or tune it first"
)

Figures = dict[str, dict[str, dict[str, float]]]
"""Model → ``validation`` or ``examples`` → metric → value."""


class Evaluate(Task):
    """Perplexity and bits per byte of models, on held-out documents and on held-out answers."""

    makes: ClassVar[Kind] = Report
    libraries: ClassVar[tuple[str, ...]] = ("safetensors", "sentencepiece", "tokenizers", "torch", "transformers")
    trains: ClassVar[bool] = True
    names_its_inputs: ClassVar[bool] = True

    models: tuple[Input[Model | Adapter], ...] = Field(min_length=1)
    """The models and adapters to measure; the report calls them by their steps' names."""
    data: Input[Shards] | None = None
    """Their validation split is measured on; the baselines are fitted on their training split."""
    examples: Input[Examples] | None = None
    """The responses of their validation split are measured on, each after its prompt."""
    metrics: tuple[Literal["perplexity"], ...] = Field(("perplexity",), min_length=1)
    """What is measured; ``perplexity`` stands for loss, perplexity and bits per byte."""
    baseline_tokens: int = Field(50_000_000, ge=1)
    """Training tokens that the unigram and trigram baselines are fitted on, at most."""
    sample_prompts: int = Field(2, ge=0, le=8)
    """Held-out prompts that the last model continues, for a person to read."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data is None and self.examples is None:
            raise ValueError("evaluate has nothing to measure on: give data, examples or both")
        names = [model.name for model in self.models]
        for name in names:
            if name in BASELINES or names.count(name) > 1:
                raise ValueError(
                    f"models: the name {name!r} is taken twice in the report, whose baselines have names too"
                )
        return self

    def check_makers(self, maker_of: Callable[[Input[Any]], Task | None]) -> None:
        for model in self.models:
            if getattr(getattr(maker_of(model), "objective", None), "name", "next_token") == "spans":
                raise ValueError(f"models: {_FILLS_GAPS.format(repr(model.name))}")

    def takes_device(self, resources: Resources) -> bool:
        """On the CPU, a model is measured while others are trained, such as the one that it is a moment of."""
        return resources.device != "cpu"

    def run(self, context: Context) -> Result:
        """Write ``report.json``, and ``report.md`` for a person."""
        sources = Sources(
            data=context.open(self.data) if self.data else None,
            examples=context.open(self.examples) if self.examples else None,
        )
        figures: Figures = {}
        samples: list[Sample] = []
        for reference in self.models:
            subject = Subject.open(reference.name, context.open(reference), context.resources.device)
            figures[subject.name] = self._measure(subject, sources, context)
            if reference is self.models[-1]:
                samples = subject.samples(sources, self.sample_prompts)
            if reference is self.models[0]:
                tokenizer = sources.data.tokenizer if sources.data else subject.tokenizer
        figures.update(fit_baselines(sources, tokenizer, self.baseline_tokens))
        write_report(context.output, figures, samples)
        flat = {
            f"{m}.{s}.{f}": v for m, splits in figures.items() for s, found in splits.items() for f, v in found.items()
        }
        return Result(metrics=flat, headline=headline(figures), samples=samples)

    def _measure(self, subject: Subject, sources: Sources, context: Context) -> dict[str, dict[str, float]]:
        found = {}
        for split, held_out in sources.held_out(subject.tokenizer).items():
            note = f"{subject.name} on {split}"

            def report(done: int, total: int, note: str = note) -> None:
                context.progress(done, total, "sequences", note)

            found[split] = rounded(note, held_out.score(subject.nats(held_out, report)))
        return found


@dataclass(frozen=True)
class Sources:
    """What models are measured on."""

    data: Shards | None
    examples: Examples | None

    def held_out(self, tokenizer: Tokenizer) -> dict[str, HeldOut]:
        """Name in the report → the validation split, as tokens of this tokenizer."""
        from tasks.measures.held_out import documents_of, responses_of

        found = {}
        if self.data is not None:
            found["validation"] = documents_of(self.data, "validation", tokenizer)
        if self.examples is not None:
            found["examples"] = responses_of(self.examples, "validation", tokenizer)
        return found

    def training(self, tokenizer: Tokenizer) -> HeldOut:
        """The texts that baselines are fitted on: documents, or examples where there are none."""
        from tasks.measures.held_out import documents_of, responses_of

        if self.data is not None:
            return documents_of(self.data, "train", tokenizer)
        assert self.examples is not None
        return responses_of(self.examples, "train", tokenizer)


@dataclass(frozen=True)
class Subject:
    """A loaded model."""

    name: str
    network: Any
    """``model.network.transformer.Transformer``, which only a run imports."""
    tokenizer: Tokenizer

    @classmethod
    def open(cls, name: str, artifact: Artifact, device: str) -> Subject:
        """Raises UserError for a model that predicts no text, or a tokenizer that it has no room for."""
        from model.formats import huggingface
        from model.inference.generate import resolve_device

        if huggingface.fills_gaps(artifact.folder):
            raise UserError(_FILLS_GAPS.format(name))
        network = huggingface.load(artifact.folder, resolve_device(device))
        tokenizer = huggingface.tokenizer_of(artifact)
        if tokenizer.vocab_size > network.vocabulary:
            raise UserError(
                f"{name}: its tokenizer has {tokenizer.vocab_size} pieces, its network only {network.vocabulary}"
            )
        return cls(name, network, tokenizer)

    def nats(self, held_out: HeldOut, progress: Callable[[int, int], None]) -> float:
        """Summed loss on the texts."""
        from model.inference.scoring import summed_loss

        return summed_loss(self.network, held_out.texts, progress)

    def samples(self, sources: Sources, count: int) -> list[Sample]:
        """What the model writes after held-out prompts, beside how they really go on."""
        from model.inference.generate import Writer
        from model.inference.sampling import Sampling

        writer = Writer(self.network, self.tokenizer)
        likeliest = Sampling(max_tokens=SAMPLE_TOKENS, temperature=0)
        title = f"a held-out text, and how {self.name} continues it"
        names = {"before_is": "the text", "after_is": self.name}
        return [
            Sample(title, prompt + truth, prompt + writer.text(prompt, likeliest), **names)
            for prompt, truth in self._prompts(sources, count)
        ]

    def _prompts(self, sources: Sources, count: int) -> list[tuple[str, str]]:
        """The first held-out prompts that leave room in the context, and what follows them."""
        room = self.network.shape.context // 2
        found: list[tuple[str, str]] = []
        if sources.examples is not None:
            for row in sources.examples.split("validation").to_pylist():
                if len(found) < count and len(self.tokenizer.encode(row["prompt"])) < room:
                    found.append((row["prompt"], row["response"]))
        elif sources.data is not None:
            opening, split = min(OPENING_TOKENS, room), sources.data.split("validation")
            for index in range(min(count, split.documents)):
                tokens = [int(token) for token in split.document(index)[1 : 1 + opening + SAMPLE_TOKENS]]
                prompt, text = (sources.data.tokenizer.decode(part) for part in (tokens[:opening], tokens))
                found.append((prompt, text[len(prompt) :]))
        return found


def fit_baselines(sources: Sources, tokenizer: Tokenizer, most_tokens: int) -> Figures:
    """n-gram models of the training split, measured on what the models are measured on."""
    training, counted = [], 0
    for text in sources.training(tokenizer).texts:
        if counted >= most_tokens:
            break
        training.append(text)
        counted += len(text.tokens)
    held_out = sources.held_out(tokenizer)
    figures: Figures = {}
    for name, order in BASELINES.items():
        model = Ngram.fit(training, tokenizer.vocab_size, order)
        figures[name] = {
            split: rounded(f"{name} on {split}", found.score(model.nats(found.texts)))
            for split, found in held_out.items()
        }
    return figures


def rounded(what: str, score: Score) -> dict[str, float]:
    """The figures to seven digits: all that float32 can mean. Raises StepFailed unless they are finite."""
    if not math.isfinite(score.nats) or not math.isfinite(score.perplexity):
        raise StepFailed(f"{what}: the loss is {score.loss}, not a number to report")
    return {name: value if isinstance(value, int) else float(f"{value:.7g}") for name, value in score.figures().items()}


def headline(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """``base perplexity 41.2, tuned answers 18.3 (base 60.1)``."""
    models = [name for name in figures if name not in BASELINES]
    first, last = models[0], models[-1]
    parts = []
    if "validation" in figures[first]:
        parts.append(f"{first} perplexity {figures[first]['validation']['perplexity']:.1f}")
    if "examples" in figures[last]:
        before = f" ({first} {figures[first]['examples']['perplexity']:.1f})" if first != last else ""
        parts.append(f"{last} answers {figures[last]['examples']['perplexity']:.1f}{before}")
    return ", ".join(parts)


def write_report(folder: Path, figures: Figures, samples: list[Sample]) -> None:
    """``report.json`` for programs, ``report.md`` for people."""
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.md").write_text(as_markdown(figures, samples), encoding="utf-8")


def as_markdown(figures: Figures, samples: list[Sample]) -> str:
    """A table per split, best model first, and the samples."""
    lines = ["# Report", ""]
    for split in next(iter(figures.values())):
        lines += [f"## {split}", "", "| model | " + " | ".join(FIGURES.values()) + " |", "|---|---:|---:|---:|---:|"]
        for name in sorted(figures, key=lambda name: figures[name][split]["loss"]):
            values = " | ".join(
                f"{value:,}" if isinstance(value, int) else f"{value:.4g}" for value in figures[name][split].values()
            )
            lines.append(f"| {name} | {values} |")
        lines.append("")
    for sample in samples:
        lines += [f"## {sample.title}", "", *_quoted(sample.before), "", *_quoted(sample.after or ""), ""]
    return "\n".join(lines)


def _quoted(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]
