"""Real pages with snippets that their main text must and must not hold, and measures of an extraction."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.corpora import shared
from tasks.text.encodings import decode
from tasks.text.unicode import without_controls

ARCHIVE = "extraction/trafilatura_eval.tar.xz"
SHINGLE = 4
"""Words of a shingle; a character counts as a word in scripts without spaces."""
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\W_]+")


@dataclass(frozen=True)
class Page:
    """One page; ``html`` is decoded."""

    name: str
    html: str
    present: tuple[str, ...]
    """Snippets of its main text."""
    absent: tuple[str, ...]
    """Snippets of what surrounds it."""

    @property
    def held_out(self) -> bool:
        """Whether it lies in the half that nothing is tuned on: by a digest of its name."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 1


def article_pages() -> list[Page]:
    """The 990 pages, in the order of their names; raises DataMissing."""
    with tarfile.open(shared(ARCHIVE)) as archive:
        files = {member.name.rpartition("/")[2]: member for member in archive if member.isfile()}
        raw = {name: archive.extractfile(member).read() for name, member in files.items()}  # type: ignore[union-attr]
    pages = [
        Page(entry["file"], html_of(raw[entry["file"]]), tuple(entry["with"]), tuple(entry["without"]))
        for entry in json.loads(raw["evaldata.json"]).values()
        if entry["file"] in raw
    ]
    return sorted(pages, key=lambda page: page.name)


def html_of(content: bytes) -> str:
    """A page decoded as ``clean_html`` does it."""
    return without_controls(decode(content, "text/html", True).text)


def words_of(text: str) -> list[str]:
    return _WORD.findall(text)


def shingles_of(text: str) -> Counter[tuple[str, ...]]:
    """How often each run of words occurs; one shorter shingle for a text of few words."""
    words = words_of(text)
    return Counter(tuple(words[at : at + SHINGLE]) for at in range(max(len(words) - SHINGLE + 1, min(len(words), 1))))


@dataclass(frozen=True)
class Quality:
    """Shares between 0 and 1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def _flat(text: str) -> str:
    return " ".join(text.split())


def by_snippets(pages: Sequence[Page], texts: Mapping[str, str]) -> Quality:
    """Of the snippets, counted over all pages: those present that are found, and those found that should be."""
    found = missed = wrong = 0
    for page in pages:
        text = _flat(texts[page.name])
        hits = sum(_flat(snippet) in text for snippet in page.present)
        found, missed = found + hits, missed + len(page.present) - hits
        wrong += sum(_flat(snippet) in text for snippet in page.absent)
    return Quality(found / max(found + wrong, 1), found / max(found + missed, 1))


def by_shingles(pages: Sequence[Page], texts: Mapping[str, str], reference: Mapping[str, str]) -> Quality:
    """Agreement with reference texts in shingles of words: means over the pages that have a reference."""
    shares = []
    for page in pages:
        ours, theirs = shingles_of(texts[page.name]), shingles_of(reference[page.name])
        if theirs:
            shared_count = (ours & theirs).total()
            shares.append((shared_count / max(ours.total(), 1), shared_count / theirs.total()))
    count = max(len(shares), 1)
    return Quality(sum(share[0] for share in shares) / count, sum(share[1] for share in shares) / count)
