"""Decontamination: which documents with questions of an evaluation set are found, and how fast, beside datatrove."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.corpora import shared
from benchmarks.measure import Table, compare, rate, ratio, versions
from tasks.copies.characters import normalised
from tasks.copies.shingles import words_of
from tasks.overlap.index import NgramIndex
from tasks.overlap.items import Item

_WORDS = 13
_DOCUMENT_CHARACTERS = 4_000
_FEW = 60
"""Documents that the slowest peer is given."""
_OURS, _PLAIN, _DATATROVE = "athanor", "sets of tuples in Python", "datatrove, NGramsDecontFilter"


def measure() -> list[Table]:
    """Questions of GSM8K's test split, planted into one document in ten of a novel."""
    lines = shared("instruct/gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    documents, planted = _documents(shared("text/war_and_peace.txt").read_text(encoding="utf-8"), questions)
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = _ours(Path(folder) / "ours", questions), _plain(questions)
        datatrove = _datatrove(Path(folder) / "datatrove", questions)
        few = documents[:_FEW]
        datatrove(few[:2])
        work = {_OURS: partial(ours, documents), _PLAIN: partial(plain, documents)}
        seconds = compare(work) | compare({_DATATROVE: partial(datatrove, few)}, rounds=1)
        found = {_OURS: ours(documents), _PLAIN: plain(documents), _DATATROVE: datatrove(few)}
    sizes = [len(text.encode()) for text in documents]
    megabytes = {name: sum(sizes[:_FEW] if name == _DATATROVE else sizes) / 1e6 for name in seconds}
    speed = {name: megabytes[name] / seconds[name] for name in seconds}
    rows = []
    for name in seconds:
        among = {number for number in planted if name != _DATATROVE or number < _FEW}
        hit, false = len(found[name] & among), len(found[name] - among)
        times = ratio(speed[name], speed[_DATATROVE])
        rows.append([name, f"{hit} of {len(among)}", str(false), rate(megabytes[name], seconds[name]), times])
    columns = ["", "documents with a question found", "others found", "MB/s", "beside datatrove"]
    notes = [
        f"{len(questions):,} questions of GSM8K's test split, one planted into one of ten of {len(documents):,} pieces "
        f"of War and Peace; {_WORDS} words; datatrove on the first {_FEW} pieces. Indexes were made before; "
        f"datatrove hashes with SHA-1, its xxhash being no dependency of its own. "
        f"{versions('datatrove')}.",
    ]
    return [Table("Decontamination", columns, rows, notes)]


def _documents(text: str, questions: Sequence[str]) -> tuple[list[str], set[int]]:
    """Pieces of a text, and the numbers of those that a question was planted into."""
    rng = random.Random(1)
    pieces = [text[start : start + _DOCUMENT_CHARACTERS] for start in range(0, len(text), _DOCUMENT_CHARACTERS)]
    long_enough = [question for question in questions if len(words_of(normalised(question))) > _WORDS]
    planted = set(range(0, len(pieces), 10))
    for number in planted:
        at = rng.randrange(len(pieces[number]))
        pieces[number] = f"{pieces[number][:at]} {rng.choice(long_enough)} {pieces[number][at:]}"
    return pieces, planted


def _ours(folder: Path, questions: Sequence[str]) -> Callable[[Sequence[str]], set[int]]:
    items = [Item(number, text, words_of(normalised(text))) for number, text in enumerate(questions)]
    NgramIndex.build(folder, [items], _WORDS, _WORDS)
    index = NgramIndex(folder)
    return lambda texts: {number for number, matches in enumerate(index.matches(texts)) if len(matches)}


def _plain(questions: Sequence[str]) -> Callable[[Sequence[str]], set[int]]:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = words_of(normalised(text))
        return {tuple(words[at : at + _WORDS]) for at in range(len(words) - _WORDS + 1)}

    known = set().union(*map(grams, questions))
    return lambda texts: {number for number, text in enumerate(texts) if not known.isdisjoint(grams(text))}


def _datatrove(folder: Path, questions: Sequence[str]) -> Callable[[Sequence[str]], set[int]]:
    """datatrove's filter over hashes made by its own functions (its indexer wants lighteval installed)."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import ngrams, simplify_text

    folder.mkdir()
    config = NGramsDecontConfig(n_grams=_WORDS, hash_config=HashConfig(hash_fc="sha1"))
    step = NGramsDecontFilter(str(folder), config)
    hashes = set()
    for question in questions:
        words = step.tokenizer.word_tokenize(simplify_text(question, config.norm_config))
        hashes |= {step.hash_func(" ".join(gram)) for gram in ngrams(words, _WORDS)}
    np.array(sorted(hashes), config.hash_config.np_descr).tofile(folder / "gsm8k.index.hashes")

    def found(texts: Sequence[str]) -> set[int]:
        kept = [step.filter(Document(text=text, id=str(number))) for number, text in enumerate(texts)]
        return {number for number, verdict in enumerate(kept) if verdict is not True}

    return found
