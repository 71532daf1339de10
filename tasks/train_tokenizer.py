"""Training a tokenizer that loses nothing of a text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from storage.bpe.texts import SPACE_MARK
from storage.corpus import Documents
from storage.errors import UserError
from storage.identity import digest_of_text
from storage.tokenizer import Tokenizer
from tasks.task import Context, Input, Result, Sample, Task

RUNS = {"\n": (1, 4), "\t": (1, 8), " ": (2, 16)}
"""Characters whose runs are pieces of their own, so that layout costs little: shortest and longest such run."""

_THREADS = 8
"""Fixed, since SentencePiece writes it into the model; it does not change the pieces."""
_MOST_CHARACTERS = 4000
"""Longer lines are cut, before a space where there is one."""
_BOUNDARIES = re.compile(f"[\n\t\0{SPACE_MARK}▅]+")
"""No piece reaches across these: runs, and what SentencePiece keeps for its own use."""
_LINE = re.compile(rf".{{1,{_MOST_CHARACTERS}}}(?= |$)|.{{1,{_MOST_CHARACTERS}}}", re.DOTALL)
_SHOWN_CHARACTERS = 300


class TrainTokenizer(Task):
    """Train SentencePiece BPE with byte fallback, and write it for ``transformers`` too, with the same ids.

    No character is normalised: ``decode(encode(text)) == text`` for every text. Digits are split.
    Ids: 0 ``<unk>``, 1 ``<s>``, 2 ``</s>``, 3 ``<pad>``, then runs of white space, bytes, pieces.
    A space begins a word's piece and is not put before the first word.

    Memory grows with the distinct words of at most ``sample_megabytes`` of text; time nearly linearly.
    """

    makes = Tokenizer
    libraries = ("sentencepiece", "tokenizers")
    uses_seed = True

    documents: Input[Documents] | Annotated[tuple[Input[Documents], ...], Field(min_length=1)]
    """Texts to train on; of several corpora (``[english, chinese]``), all together."""
    vocab_size: int = Field(ge=300)
    """Number of pieces, the special ones, 256 bytes and the runs of white space among them."""
    character_coverage: float = Field(0.9995, ge=0.9, le=1)
    """The share of all characters that get a piece of their own; the rarest are written as bytes."""
    sample_megabytes: float = Field(100.0, gt=0)
    """Of a larger corpus, about so much text is drawn, by document."""

    def run(self, context: Context) -> Result:
        references = self.documents if isinstance(self.documents, tuple) else (self.documents,)
        documents = [context.open(reference) for reference in references]
        total = _text_bytes(documents)
        share = min(1.0, self.sample_megabytes * 1e6 / total) if total else 1.0
        texts = _sample(documents, share, context.seed)
        model_bytes = self._train(texts, context)
        context.output.mkdir(parents=True, exist_ok=True)
        (context.output / "tokenizer.model").write_bytes(model_bytes)
        return self._export(context.output, documents, total, share)

    def _train(self, texts: Iterator[str], context: Context) -> bytes:
        from sentencepiece import SentencePieceTrainer

        read = _Reading(texts, context)
        made = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=read.lines(),
                model_writer=made,
                model_type="bpe",
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                byte_fallback=True,
                split_digits=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=False,
                required_chars=f"{SPACE_MARK}0123456789",
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

    def _export(self, folder: Path, documents: Sequence[Documents], total: int, share: float) -> Result:
        from sentencepiece import SentencePieceProcessor

        from tasks.tokenizer_json import write_fast_tokenizer

        model = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        write_fast_tokenizer(model, RUNS, folder)
        tokenizer = Tokenizer.of_folder(folder)
        text = next(_texts(documents))[:_SHOWN_CHARACTERS]
        ids = tokenizer.encode(text)
        shown = "|".join(model.id_to_piece(int(token)) for token in ids)
        return Result(
            counts={"vocab_size": tokenizer.vocab_size},
            metrics={
                "vocab_size": tokenizer.vocab_size,
                "bytes_in": total,
                "sampled_fraction": share,
                "sample_bytes_per_token": len(text.encode()) / max(1, len(ids)),
            },
            headline=f"{tokenizer.vocab_size:,} pieces",
            samples=[Sample("pieces of a text", shown, before_is="pieces")],
        )


class _Reading:
    """Hands texts to the trainer in lines, and counts what it handed over."""

    def __init__(self, texts: Iterator[str], context: Context) -> None:
        self._texts, self._context = texts, context
        self.characters = 0

    def lines(self) -> Iterator[str]:
        for done, text in enumerate(self._texts, 1):
            for line in lines_of(text):
                self.characters += len(line)
                yield line
            if done % 100 == 0:
                self._context.progress(done, None, "documents")


def lines_of(text: str) -> Iterator[str]:
    """The text in lines of at most ``_MOST_CHARACTERS``, cut where no piece may reach across; nothing is lost.

    Only a longer stretch with neither space nor line break is cut elsewhere.
    """
    for line in _BOUNDARIES.split(text):
        if line:
            yield from _LINE.findall(line)


def _tables(documents: Sequence[Documents], columns: list[str]) -> Iterator[pa.Table]:
    return (table for corpus in documents for table in corpus.tables(columns))


def _text_bytes(documents: Sequence[Documents]) -> int:
    """UTF-8 bytes of all texts."""
    return sum(pc.sum(pc.binary_length(table["text"])).as_py() or 0 for table in _tables(documents, ["text"]))


def _texts(documents: Sequence[Documents]) -> Iterator[str]:
    for table in _tables(documents, ["text"]):
        yield from table["text"].to_pylist()


def _sample(documents: Sequence[Documents], share: float, seed: int) -> Iterator[str]:
    """Texts of about ``share`` of the documents, drawn by seed and id: the same whatever the partitions."""
    for table in _tables(documents, ["id", "text"]):
        for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
            if share >= 1 or int(digest_of_text(f"tokenizer\n{seed}\n{identity}")[:13], 16) < share * 16**13:
                yield text
