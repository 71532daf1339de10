"""Encoding texts beside the libraries: the same ids, and how many megabytes a second."""

from __future__ import annotations

import base64
import json
import os
import random
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.corpora import DataMissing, debian, html_files, shared
from benchmarks.measure import Table, compare, rate, ratio, versions
from storage.corpus import DOCUMENTS_SCHEMA, Documents, document_id, table_of, write_table
from storage.tokenizer import Tokenizer
from tasks.context import PlainWorld, RunContext
from tasks.train_tokenizer import TrainTokenizer

_VOCABULARY = 32_000
_ROUNDS = 2
_TIMED_MEGABYTES = 30.0
_SLOWER_MEGABYTES = 3.0
"""Peers of about SentencePiece's speed are timed on so much of the same texts."""
_PROVED_MEGABYTES = {"English documentation": 45.0, "Rust documentation": 30.0, "code (Python)": 45.0, "Chinese": 45.0}
"""Most that is read of each kind."""
_TRAINED_MEGABYTES = 60.0


def measure() -> list[Table]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    corpora = {
        name: list(_first(texts(), most))
        for (name, most), texts in zip(_PROVED_MEGABYTES.items(), _READERS, strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _trained(corpora, Path(folder))
        return [_speed(tokenizer, corpora), _equality(tokenizer, corpora)]


def _speed(tokenizer: Tokenizer, corpora: dict[str, list[str]]) -> Table:
    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer as Fast

    model = SentencePieceProcessor(model_file=str(tokenizer.path("tokenizer.model")))
    fast = Fast.from_file(str(tokenizer.path("tokenizer.json")))
    tekken = _tekken()
    opening = compare({"opening": lambda: _opened(tokenizer)})["opening"]
    rows = []
    for name, texts in corpora.items():
        timed, few = list(_first(texts, _TIMED_MEGABYTES)), list(_first(texts, _SLOWER_MEGABYTES))
        column = pa.array(timed, pa.large_string())
        # As SentencePiece's, the models of these are read before the clock starts.
        fresh = [_opened(tokenizer) for _ in range(_ROUNDS)]
        warm = _opened(tokenizer)
        warm.encode_columns(column)
        work: dict[str, Callable[[], object]] = {
            "cold": lambda column=column, fresh=fresh: fresh.pop().encode_columns(column),
            "warm": lambda column=column, warm=warm: warm.encode_columns(column),
            "sentencepiece": lambda timed=timed: [model.encode(text, return_type="numpy") for text in timed],
            "tokenizers": lambda few=few: [fast.encode(text, add_special_tokens=False).ids for text in few],
        }
        if tekken is not None:
            work["tiktoken"] = lambda few=few: [tekken.encode_ordinary(text) for text in few]
        seconds = compare(work, _ROUNDS)
        size, few_size = _megabytes(timed), _megabytes(few)
        own = seconds["sentencepiece"]
        rows.append(
            [
                f"{name}, {size:.0f} MB",
                rate(size, seconds["cold"]),
                rate(size, seconds["warm"]),
                rate(size, own),
                rate(few_size, seconds["tokenizers"]),
                rate(few_size, seconds["tiktoken"]) if tekken is not None else "not installed",
                ratio(own, seconds["cold"]),
                ratio(own, seconds["warm"]),
            ]
        )
    distributions = ["sentencepiece", "tokenizers", *(["tiktoken", "mistral-common"] if tekken is not None else [])]
    return Table(
        "Encoding, megabytes of text a second on one core",
        [
            "texts",
            "athanor, from an empty table",
            "athanor, texts seen before",
            "sentencepiece",
            "tokenizers",
            "tiktoken",
            "from an empty table ÷ sentencepiece",
            "seen before ÷ sentencepiece",
        ],
        rows,
        [
            f"A BPE model of {_VOCABULARY:,} pieces, trained by `train_tokenizer` on all these texts, for all but "
            "tiktoken, which has Tekken's 131,072 pieces (`mistral-common` carries them). Opening a tokenizer "
            f"({opening:.2f} s) is not part of the times, for none of them.",
            f"{versions(*distributions)}. SentencePiece takes text by text and returns NumPy arrays, its fastest way; "
            f"`tokenizers` and tiktoken are timed on the first {_SLOWER_MEGABYTES:g} MB.",
        ],
    )


def _opened(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with its model read, and no text seen."""
    opened = Tokenizer(tokenizer.folder, tokenizer.manifest)
    opened.encode("")
    return opened


def _equality(tokenizer: Tokenizer, corpora: dict[str, list[str]]) -> Table:
    """Every id of every text compared with SentencePiece's own."""
    models = {"trained here": tokenizer.path("tokenizer.model"), **_mistral_models()}
    rows = []
    for name, texts in {**corpora, **_others()}.items():
        for model_name, path in models.items():
            most = _megabytes(texts) if path == models["trained here"] else _SLOWER_MEGABYTES
            rows.append([name, model_name, *_compared(path, list(_first(texts, most)))])
    return Table(
        "The same ids as SentencePiece",
        ["texts", "model", "MB", "texts", "ids", "texts that differ"],
        rows,
        ["A literal U+2581, which SentencePiece takes for a space and Athanor keeps, was made a space in all texts."],
    )


def _compared(path: Path, texts: Sequence[str]) -> list[str]:
    from sentencepiece import SentencePieceProcessor

    from storage.bpe.texts import SPACE_MARK, TextEncoder, column_of

    texts = [text.replace(SPACE_MARK, " ") for text in texts]
    model = SentencePieceProcessor(model_file=str(path))
    columns = TextEncoder.of(path.read_bytes())
    assert columns is not None, f"{path.name} cannot be encoded in columns"
    ids, offsets = columns.encode(column_of(texts))
    differing = sum(
        not np.array_equal(model.encode(text, return_type="numpy"), ids[offsets[number] : offsets[number + 1]])
        for number, text in enumerate(texts)
    )
    return [f"{_megabytes(texts):.1f}", f"{len(texts):,}", f"{len(ids):,}", str(differing)]


def _trained(corpora: dict[str, list[str]], folder: Path) -> Tokenizer:
    """A tokenizer of the project's own, trained on a sample of all texts, every kind as much as there is."""
    for number, (name, texts) in enumerate(corpora.items()):
        rows = [
            {"id": document_id(name, str(n)), "text": text, "url": str(n), "source": name, "first_seen": 1}
            for n, text in enumerate(texts)
        ]
        write_table(table_of(rows, DOCUMENTS_SCHEMA), folder / "documents" / f"{number:05}.parquet")
    task = TrainTokenizer(documents="documents", vocab_size=_VOCABULARY, sample_megabytes=_TRAINED_MEGABYTES)  # type: ignore[arg-type]
    (reference,) = task.inputs().values()
    context = RunContext(
        output=folder / "tokenizer",
        scratch=folder / "scratch",
        world=PlainWorld(folder),
        inputs={reference: Documents.of_folder(folder / "documents")},
    )
    task.run(context)
    return Tokenizer.of_folder(folder / "tokenizer")


def _tekken() -> Any | None:
    """tiktoken with the ranks that mistral-common carries; None where one of them is not installed."""
    found = find_spec("mistral_common")
    if found is None or not found.submodule_search_locations or find_spec("tiktoken") is None:
        return None
    import tiktoken

    path = max(Path(found.submodule_search_locations[0]).glob("data/tekken_*.json"))
    content = json.loads(path.read_text("utf-8"))
    kept = content["config"]["default_vocab_size"] - content["config"]["default_num_special_tokens"]
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in content["vocab"][:kept]}
    return tiktoken.Encoding("tekken", pat_str=content["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})


def _mistral_models() -> dict[str, Path]:
    found = find_spec("mistral_common")
    places = found.submodule_search_locations if found else None
    return {path.name: path for path in sorted(Path(places[0]).glob("data/*.model.v[13]"))} if places else {}


def _documentation() -> Iterator[str]:
    return _html(["cppreference-doc-en-html", "postgresql-doc-15", "python3.11-doc"])


def _rust() -> Iterator[str]:
    return _html(["rust-doc"])


def _code() -> Iterator[str]:
    """What is installed: Python's own modules and the libraries' beside."""
    paths = sorted(path for name in ("stdlib", "purelib") for path in Path(sysconfig.get_path(name)).rglob("*.py"))
    return (path.read_text("utf-8", "replace") for path in _shuffled(paths))


def _chinese() -> Iterator[str]:
    help_pages = html_files("libreoffice-help-zh-cn")
    handbook = [path for path in html_files("debian-handbook") if "zh-" in path.parts[-2]]
    guides = [
        path
        for architecture in ("amd64", "arm64", "i386")
        for path in debian(f"installation-guide-{architecture}").rglob("*.html")
        if "zh" in path.parent.name and path.is_file()
    ]
    return filter(None, map(_text, _shuffled([*help_pages, *handbook, *sorted(guides)])))


_READERS = (_documentation, _rust, _code, _chinese)


def _others() -> dict[str, list[str]]:
    """Texts that differ from those trained on."""
    try:
        poems = shared("text/tang_poems.jsonl").read_text("utf-8").splitlines()
        novels = {name: shared(f"text/{name}.txt") for name in ("war_and_peace", "wagahaiwa_nekodearu")}
    except DataMissing:
        return {}
    return {
        "Tang poems": [json.loads(poem)["text"] for poem in poems],
        **{name: [path.read_text("utf-8")] for name, path in novels.items()},
    }


def _html(packages: Sequence[str]) -> Iterator[str]:
    return filter(None, map(_text, _shuffled([path for package in packages for path in html_files(package)])))


def _text(path: Path) -> str:
    """All that a page shows but its navigation."""
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser(path.read_bytes())
    for node in page.css("script, style, nav"):
        node.decompose()
    return page.body.text(separator="\n").strip() if page.body else ""


def _shuffled(paths: list[Path]) -> list[Path]:
    random.Random(1).shuffle(paths)
    return paths


def _first(texts: Sequence[str] | Iterator[str], megabytes: float) -> Iterator[str]:
    """Texts until they hold so much."""
    size = 0.0
    for text in texts:
        size += len(text.encode()) / 1e6
        yield text
        if size >= megabytes:
            return


def _megabytes(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6
