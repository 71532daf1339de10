"""Gopher's, C4's and FineWeb's rules: verdicts and speed beside datatrove's four filters, on real English pages."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.corpora import CACHE, debian, html_files, shared
from benchmarks.measure import Table, rate, ratio, versions

PACKAGES = {"python3.11-doc": 530, "rust-doc": 9_000, "cppreference-doc-en-html": 1_500}
"""Pages taken of each package, drawn at random."""
LONGEST = 4_000
"""Characters of a document; longer pages are cut at the end of a line, since the peer needs ten seconds a megabyte."""
BATCH = 500
_REPETITION = frozenset({"repeated_lines", "repeated_words"})

Faults = list[set[str]]
"""The reasons against each document."""


def measure() -> list[Table]:
    documents = real_documents()
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    ours, first, seconds = _timed(lambda: _judge(documents))
    peers, peer_seconds = _datatrove(documents)
    return [
        _speed(megabytes, first, seconds, peer_seconds, len(documents)),
        _verdicts(ours, peers),
    ]


def real_documents() -> list[str]:
    """Text of documentation pages (main content by resiliparse), and passages of a novel; kept between runs."""
    cached = CACHE / "rules-documents.json"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(json.dumps([*_pages(), *_passages()]), encoding="utf-8")
    texts: list[str] = json.loads(cached.read_text(encoding="utf-8"))
    return texts


def _pages() -> Iterator[str]:
    from resiliparse.extract.html2text import extract_plain_text

    from tasks.text.unicode import normalise

    for package, count in PACKAGES.items():
        debian(package)
        paths = html_files(package)
        random.Random(1).shuffle(paths)
        for path in [path for path in paths if path.stat().st_size < 600_000][:count]:
            html = path.read_text(encoding="utf-8", errors="replace")
            text = normalise(extract_plain_text(html, main_content=True))
            text = text if len(text) <= LONGEST else text[:LONGEST].rpartition("\n")[0]
            if text.strip():
                yield text


def _passages() -> Iterator[str]:
    paragraphs = shared("text/war_and_peace.txt").read_text(encoding="utf-8").split("\n\n")
    for start in range(0, len(paragraphs), 12):
        yield "\n".join(paragraphs[start : start + 12])


def _timed(work: Callable[[], Faults]) -> tuple[Faults, float, float]:
    """The result, and seconds of processor time: the first time, and the best of three later ones."""
    found, times = [], []
    for _ in range(4):
        began = time.process_time()
        found = work()
        times.append(time.process_time() - began)
    return found, times[0], min(times[1:])


def _judge(documents: Sequence[str]) -> Faults:
    from tasks.rules import RULES
    from tasks.rules.batch import Batch

    sets = {name: RULES[name]() for name in ("gopher", "c4", "fineweb")}
    found: Faults = [set() for _ in documents]
    for start in range(0, len(documents), BATCH):
        texts = documents[start : start + BATCH]
        batch = Batch(texts, ["en"] * len(texts))
        for name, rule in sets.items():
            for fault, faulty in rule.judge(batch).faults.items():
                kind = "gopher repetition" if fault in _REPETITION else "gopher quality" if name == "gopher" else name
                for index in np.flatnonzero(faulty).tolist():
                    found[start + index].add(f"{kind}: {fault}")
    return found


def _datatrove(documents: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """For each filter its reason against each document (empty: none), and its seconds of processor time."""
    from datatrove.data import Document  # type: ignore[import-untyped]
    from datatrove.pipeline.filters import (  # type: ignore[import-untyped]
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "gopher quality": GopherQualityFilter(),
        "gopher repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(char_duplicates_ratio=0.1),
    }
    filters["gopher quality"].filter(Document(text="Loads the tokenizer, outside the time.", id=""))
    found: dict[str, list[str]] = {name: [] for name in filters}
    seconds = dict.fromkeys(filters, 0.0)
    for name, peer in filters.items():
        began = time.process_time()
        for text in documents:
            verdict = peer.filter(Document(text=text, id=""))
            found[name].append("" if verdict is True else verdict[1])
        seconds[name] = time.process_time() - began
    return found, seconds


def _speed(megabytes: float, first: float, seconds: float, peers: dict[str, float], documents: int) -> Table:
    total = sum(peers.values())
    rows = [
        ["Athanor: gopher, c4, fineweb", rate(megabytes, seconds), ratio(total, seconds)],
        ["the same, its vocabulary still empty", rate(megabytes, first), ratio(total, first)],
        ["datatrove: all four filters", rate(megabytes, total), "1 ×"],
        *([f"datatrove: {name}", rate(megabytes, spent), ""] for name, spent in peers.items()),
    ]
    return Table(
        "Rules: speed",
        ["", "MB/s", "beside datatrove's four"],
        rows,
        [
            f"{documents:,} documents, {megabytes:.1f} MB: pages of {', '.join(PACKAGES)}, and passages of a novel, "
            f"with {versions('datatrove', 'spacy')}. Athanor: the best of three passes in batches of {BATCH}, and the "
            "very first pass, in which it splits every distinct word once.",
        ],
    )


def _verdicts(ours: Faults, peers: dict[str, list[str]]) -> Table:
    rows = []
    for name, reasons in peers.items():
        dropped = [any(fault.startswith(name) for fault in faults) for faults in ours]
        theirs = [bool(reason) for reason in reasons]
        differ = [index for index, pair in enumerate(zip(dropped, theirs, strict=True)) if pair[0] != pair[1]]
        share = f"{len(differ)} ({len(differ) / len(ours):.3%})"
        rows.append([name, f"{sum(dropped):,}", f"{sum(theirs):,}", share])
    return Table(
        "Rules: verdicts",
        ["rules", "dropped by Athanor", "dropped by datatrove", "verdicts that differ"],
        rows,
        [
            f"{len(ours):,} documents, each filter by itself, with the same thresholds: datatrove's defaults, and "
            "FineWeb's published 0.1 for characters in duplicate lines (datatrove's default: 0.01).",
            "Read differently: lines end at newlines alone (`clean_html` leaves no other ends); a run of more than "
            "2,000 characters without white space is one word; a document without a word has a fault where datatrove "
            "fails; `c4` keeps the blank lines between the lines that stay.",
        ],
    )
