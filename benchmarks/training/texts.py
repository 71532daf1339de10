"""Token files that every trainer reads: nanoGPT's form, beside the tokenizer that made them."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sentencepiece import SentencePieceProcessor

from benchmarks.corpora import shared

Ids = npt.NDArray[np.int64]

_TRAINING_SHARE = 0.9
_CHAPTER = re.compile(r"^CHAPTER [IVXLC]+$", re.MULTILINE)
_BOOK = """\
name: book
seed: 1
steps:
  pages:     {{task: collect, sources: [{{kind: text, path: chapters}}]}}
  documents: {{task: clean_html, pages: pages}}
  tokenizer: {{task: train_tokenizer, documents: documents, vocab_size: {vocabulary}}}
  shards:    {{task: shard, documents: documents, tokenizer: tokenizer, validation_fraction: 0.1}}
resources: {{workers: 2}}
"""


@dataclass(frozen=True)
class TokenFiles:
    """``train.bin`` and ``val.bin`` of 16-bit ids, and the tokenizer, in one folder."""

    folder: Path
    vocabulary: int
    end: int | None
    """Id behind every document; None where each file is one document."""

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    def validation(self) -> list[Ids]:
        """The documents of the validation file."""
        ids = np.fromfile(self.folder / "val.bin", "<u2").astype(np.int64)
        if self.end is None:
            return [ids]
        return [part for part in np.split(ids, np.flatnonzero(ids == self.end) + 1) if len(part)]


def shakespeare(folder: Path) -> TokenFiles:
    """Tiny Shakespeare by characters, the first nine tenths to train on, as nanoGPT prepares it."""
    text = shared("text/tinyshakespeare.txt").read_text(encoding="utf-8")
    characters = sorted(set(text))
    number = {character: place for place, character in enumerate(characters)}
    ids = np.array([number[character] for character in text], "<u2")
    cut = int(len(text) * _TRAINING_SHARE)
    folder.mkdir(parents=True)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    _write_characters(folder / "tokenizer", number)
    _write_vocabulary(folder, len(characters))
    return TokenFiles(folder, len(characters), None)


def _write_characters(folder: Path, number: dict[str, int]) -> None:
    """A tokenizer of single characters that transformers and Athanor open."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    special = {name: len(number) + place for place, name in enumerate(("<unk>", "<s>", "</s>"))}
    tokenizer = Tokenizer(models.WordLevel(number | special, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(special))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    described |= {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")


def war_and_peace(folder: Path, vocabulary: int) -> TokenFiles:
    """The novel in a BPE of so many pieces, made by a recipe; every tenth chapter or so is held out."""
    text = shared("text/war_and_peace.txt").read_text(encoding="utf-8")
    chapters = folder / "chapters"
    chapters.mkdir(parents=True)
    for number, chapter in enumerate(_CHAPTER.split(text)[1:]):
        if len(chapter) > 1000:  # not the contents' lines
            (chapters / f"{number:04}.txt").write_text(chapter.strip(), encoding="utf-8")
    (folder / "book.yaml").write_text(_BOOK.format(vocabulary=vocabulary), encoding="utf-8")
    athanor(folder, "run", "book.yaml")
    athanor(folder, "export", "book/shards", "exported", "--format", "nanogpt")
    for name in ("train.bin", "val.bin", "tokenizer"):
        (folder / "exported" / name).rename(folder / name)
    _write_vocabulary(folder, vocabulary)
    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer" / "tokenizer.model"))
    return TokenFiles(folder, vocabulary, pieces.eos_id())


def _write_vocabulary(folder: Path, size: int) -> None:
    """How nanoGPT learns of a vocabulary's size."""
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": size}))


def athanor(folder: Path, *arguments: str) -> str:
    """Run a command as a user would, in a home of the folder's own; returns what it printed."""
    command = [str(Path(sys.executable).with_name("athanor")), *arguments]
    environment = os.environ | {"ATHANOR_HOME": str(folder / "home")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"athanor {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
