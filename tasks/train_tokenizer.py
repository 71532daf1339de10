"""Training a tokenizer that loses nothing of a text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from storage.bpe.texts import SPACE_MARK
from storage.corpus import Documents
from storage.errors import StepFailed, UserError
from storage.tokenizer import SENTINEL, Tokenizer
from tasks.task import Context, Input, Outside, Result, Task
from tasks.vocabulary.report import Report, metric_name
from tasks.vocabulary.sample import Drawn, draw
from tasks.vocabulary.words import WordCounts

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

RUNS = {"\n": (1, 4), "\t": (1, 8), " ": (2, 16)}
"""Characters whose runs are pieces of their own, so that layout costs little: shortest and longest such run."""

_THREADS = 8
"""Fixed, since SentencePiece writes it into the model; it does not change the pieces."""
_MOST_CHARACTERS = 4000
"""Longer lines are cut, before a space where there is one."""
_BOUNDARIES = f"\n\t\0{SPACE_MARK}▅"
"""No piece reaches across these: runs, and what SentencePiece keeps for its own use."""
_LINE = re.compile(rf".{{1,{_MOST_CHARACTERS}}}(?= |$)|.{{1,{_MOST_CHARACTERS}}}", re.DOTALL)
_MOST_SOURCES = 20
"""Of more sources, only the whole is counted."""
_OWN_NAMES = re.compile(r"<unk>|<s>|</s>|<pad>|<0x[0-9A-F]{2}>")
"""Names that every tokenizer of ours has for itself."""


class TrainTokenizer(Task):
    """Train SentencePiece with byte fallback, and write a BPE model for ``transformers`` too, with the same ids.

    No character is normalised: ``decode(encode(text)) == text`` for every text (under ``unigram``, but
    for a literal U+2581, which SentencePiece takes for a space). Digits are split. Ids: 0 ``<unk>``,
    1 ``<s>``, 2 ``</s>``, 3 ``<pad>``, then ``special_tokens``, ``sentinels``, runs of white space, bytes, pieces.
    A space begins a word's piece and is not put before the first word.

    The corpora are read twice, partition by partition. Pairs of bytes are joined by the distinct words alone, which
    are counted before SentencePiece sees them. Memory grows with the distinct words of at most ``sample_megabytes``
    of text; time nearly linearly.
    """

    makes = Tokenizer
    libraries = ("sentencepiece", "tokenizers")
    uses_seed = True

    documents: Input[Documents] | Annotated[tuple[Input[Documents], ...], Field(min_length=1)]
    """Texts to train on; of several corpora (``[english, chinese]``), all together."""
    vocab_size: int = Field(ge=300)
    """Number of pieces, the special ones, 256 bytes and the runs of white space among them."""
    model: Literal["bpe", "unigram"] = "bpe"
    """``bpe`` encodes many times as fast. Of ``unigram`` there is no ``tokenizer.json``: none gives the same ids."""
    special_tokens: tuple[str, ...] = ()
    """Names of more special tokens (``<|user|>``), with the ids from 4 on in this order. No text is read as one."""
    sentinels: int = Field(0, ge=0)
    """So many tokens ``<extra_id_0>``, ``<extra_id_1>`` … behind the special ones, to stand for gaps in a text, as the
    objective ``spans`` of ``pretrain`` needs them: about 1 for each 20 tokens of its context."""
    character_coverage: float = Field(0.9995, ge=0.9, le=1)
    """The share of all characters that get a piece of their own; the rarest are written as bytes."""
    sample_megabytes: float = Field(100.0, gt=0)
    """Of larger corpora, about so much text is drawn, by document."""
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Share of each source in the sample: ``{docs: 1, code: 0.5}``; by default as the bytes there are. A source
    with less than its share is taken whole, and the others make up for it."""
    pin: Annotated[bool, Outside()] = True
    """Keep the tokenizer when only the documents have changed: a refresh must not change the meaning of every id.
    It is trained again for other settings, another seed or ``--rebuild``."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for number, name in enumerate(self.special_names):
            if not name.strip() or "," in name or SPACE_MARK in name or not name.isprintable():
                raise ValueError(f"special_tokens: {name!r} is no name; take printable characters, and no comma")
            if _OWN_NAMES.fullmatch(name) or name in self.special_names[:number]:
                raise ValueError(f"special_tokens: {name!r} is there already; leave it out")
        return self

    @property
    def special_names(self) -> tuple[str, ...]:
        """All special tokens beside those with a role, in the order of their ids."""
        return (*self.special_tokens, *(SENTINEL.format(number) for number in range(self.sentinels)))

    def pinned(self) -> bool:
        return self.pin

    def run(self, context: Context) -> Result:
        references = self.documents if isinstance(self.documents, tuple) else (self.documents,)
        documents = [context.open(reference) for reference in references]
        drawn = draw(documents, context.seed, self.sample_megabytes * 1e6, self.weights)
        model_bytes = self._train(drawn, context)
        context.output.mkdir(parents=True, exist_ok=True)
        (context.output / "tokenizer.model").write_bytes(model_bytes)
        return self._export(context.output, drawn)

    def _train(self, drawn: Drawn, context: Context) -> bytes:
        from sentencepiece import SentencePieceTrainer

        read = _Reading(drawn, context)
        made = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                # Other models look at what stands around a word, too.
                sentence_iterator=read.words() if self.model == "bpe" else read.lines(),
                input_format="tsv" if self.model == "bpe" else "text",
                model_writer=made,
                model_type=self.model,
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                byte_fallback=True,
                split_digits=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                required_chars=f"{SPACE_MARK}0123456789",
                control_symbols=list(self.special_names),
                user_defined_symbols=[
                    (SPACE_MARK if character == " " else character) * length
                    for character, (least, most) in RUNS.items()
                    for length in range(least, most + 1)
                ],
                unk_id=0,
                bos_id=1,
                eos_id=2,
                pad_id=3,
                max_sentence_length=8 * _MOST_CHARACTERS,
                num_threads=_THREADS,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise self._explained(str(error), read) from error
        return made.getvalue()

    def _explained(self, message: str, read: _Reading) -> Exception:
        place = f"train_tokenizer: vocab_size {self.vocab_size}"
        if read.characters == 0:
            return UserError("train_tokenizer: the documents hold no text to train on; look at what was filtered out")
        if most := re.search(r"too high .* value <= (\d+)", message):
            return UserError(
                f"{place} is more than {read.characters:,} characters of text have pieces for; "
                f"set it to {most.group(1)} or less, or give more text"
            )
        if least := re.search(r"required_chars. \d+ vs (\d+)", message):
            return UserError(
                f"{place} is too small for the different characters of the text; set it to {least.group(1)} or more, "
                f"or lower character_coverage (now {self.character_coverage})"
            )
        return RuntimeError(f"sentencepiece: {message}")

    def _export(self, folder: Path, drawn: Drawn) -> Result:
        from sentencepiece import SentencePieceProcessor

        from tasks.vocabulary.fast import write_fast_tokenizer

        model = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        names = self.special_names
        if [model.piece_to_id(name) for name in names] != list(range(4, 4 + len(names))):
            raise StepFailed(f"train_tokenizer: special_tokens {names} did not get the ids from 4 on")
        if self.model == "bpe":
            write_fast_tokenizer(model, RUNS, names, folder)
        report = Report(Tokenizer.of_folder(folder), _pieces(model))
        for table in drawn.tables():
            report.add(table)
        return Result(
            counts={"vocab_size": model.get_piece_size()},
            metrics={
                "vocab_size": model.get_piece_size(),
                "bytes_in": sum(drawn.bytes_in.values()),
                **_sampled(drawn.bytes_in, drawn.bytes_drawn),
                **report.metrics(),
            },
            headline=f"{model.get_piece_size():,} pieces",
            samples=report.samples(),
        )


class _Reading:
    """Hands texts to the trainer, and counts what it handed over."""

    def __init__(self, drawn: Drawn, context: Context) -> None:
        self._drawn, self._context = drawn, context
        self.characters = 0

    def lines(self) -> Iterator[str]:
        """The texts in lines."""
        for texts in self._texts():
            for text in texts.to_pylist():
                for line in lines_of(text):
                    self.characters += len(line)
                    yield line

    def words(self) -> Iterator[str]:
        """The distinct words, each with a tab and how often it is there: all that pairs of bytes are joined by."""
        counts = WordCounts(_BOUNDARIES)
        for texts in self._texts():
            counts.add(texts)
        for word, count in counts.items():
            for part in lines_of(word):
                self.characters += len(part) * count
                yield f"{part}\t{count}"

    def _texts(self) -> Iterator[pa.ChunkedArray]:
        done = 0
        for table in self._drawn.tables():
            yield table["text"]
            done += len(table)
            self._context.progress(done, None, "documents")


def lines_of(text: str) -> Iterator[str]:
    """The text in lines of at most ``_MOST_CHARACTERS``, cut where no piece may reach across; nothing is lost.

    Only a longer stretch with neither space nor line break is cut elsewhere.
    """
    for line in re.split(f"[{_BOUNDARIES}]+", text):
        if line:
            yield from _LINE.findall(line)


def _pieces(model: SentencePieceProcessor) -> list[str]:
    """The pieces by their ids, with plain spaces; special ones and bytes, which no report is about, are empty."""
    return [
        ""
        if model.is_byte(token) or model.is_control(token) or model.is_unknown(token)
        else model.id_to_piece(token).replace(SPACE_MARK, " ")
        for token in range(model.get_piece_size())
    ]


def _sampled(bytes_in: Mapping[str, int], drawn: Mapping[str, int]) -> dict[str, float]:
    """Which share of the texts was trained on, in all and by source where that differs."""
    whole = sum(drawn.values())
    metrics: dict[str, float] = {"bytes_sampled": whole, "sampled_fraction": whole / max(1, sum(bytes_in.values()))}
    if whole < sum(bytes_in.values()) and len(drawn) <= _MOST_SOURCES:
        metrics |= {f"bytes_sampled.{metric_name(source)}": size for source, size in drawn.items()}
    return metrics
