"""Hostile input stays harmless: mutated pages, huge pages, odd texts, and strings that regular expressions dislike."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import inspect
import itertools
import pkgutil
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]
import pytest

import tasks
from storage.corpus import DOCUMENTS_SCHEMA, Documents, read_table, table_of
from storage.errors import StepFailed
from tasks.clean_html import Cleaned, CleanHtml, Dropped, batches_of, clean_pages
from tasks.dedup import Dedup
from tasks.filter import Filter
from tasks.html.extractors import EXTRACTORS, warm_up
from tasks.scrub_pii import ScrubPii
from tests.flows.test_recipes import ENGLISH
from tests.helpers import run_task
from tests.hostile import HOSTILE_TEXTS, LARGE_PAGES, mutated_pages
from tests.tasks.corpora import make_documents, rows_of

FAST = sorted(EXTRACTORS.keys() - {"beautifulsoup", "trafilatura"})
MUTATED = 10_000
SECONDS = 20.0
"""What ``clean_html`` grants a page unless told otherwise."""
MOST_GROWTH = 400_000_000
"""Bytes by which memory may have grown after all pages."""


def cleaned(task: CleanHtml, content: bytes, content_type: str) -> tuple[str, float]:
    """What became of a page, and the processor seconds that took; the process is ended if it hangs."""
    faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
    start = time.process_time()
    try:
        (outcome,) = clean_pages(task, [page_of(content, content_type)])
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.process_time() - start
    if isinstance(outcome, Dropped):
        return f"dropped: {outcome.reason}", seconds
    check(outcome)
    return "kept", seconds


def page_of(content: bytes, content_type: str) -> dict[str, Any]:
    """What is asked of a row of pages."""
    url = "https://example.org/a/b"
    return {"content": content, "content_type": content_type, "url": url, "collected_at": None}


def check(outcome: Cleaned) -> None:
    """What is kept can be stored, read, and learnt from."""
    text = outcome.text
    assert text.strip()
    assert text.encode("utf-8").decode("utf-8") == text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]", text)
    row = {"id": "i", "text": text, "url": "u", "source": "s", "first_seen": 1, **outcome.said.columns()}
    assert table_of([row], DOCUMENTS_SCHEMA)["text"][0].as_py() == text
    for value in outcome.said.columns().values():
        for part in value if isinstance(value, list) else [value]:
            assert part is None or (part and "\0" not in part and part == part.strip())


@pytest.mark.slow
@pytest.mark.parametrize("extractor", FAST)
def test_mutated_pages_are_cleaned_or_dropped(extractor: str) -> None:
    warm_up(extractor)
    task = CleanHtml.model_validate({"pages": "pages", "extractor": extractor})
    counts: Counter[str] = Counter()
    slowest, before = 0.0, 0
    for number, (content, content_type) in enumerate(mutated_pages(MUTATED, seed=7)):
        if number == MUTATED // 10:
            before = memory()
        outcome, seconds = cleaned(task, content, content_type)
        counts[outcome] += 1
        slowest = max(slowest, seconds)
    grown = memory() - before
    told = f"{extractor}: {dict(counts)}, slowest {slowest:.2f} s, memory grew by {grown / 1e6:.0f} MB"
    assert counts.total() >= MUTATED, told
    assert counts["kept"] > MUTATED / 2, told
    assert set(counts) <= {"kept", "dropped: empty", "dropped: not_text"}, told
    assert slowest < SECONDS, told
    assert grown < MOST_GROWTH, told


@pytest.mark.slow
def test_mutated_pages_become_together_what_each_becomes_alone() -> None:
    task = CleanHtml.model_validate({"pages": "pages"})
    pages = [page_of(*page) for page in mutated_pages(MUTATED // 10, seed=9)]
    batches = list(batches_of(pages, task.extractor))
    assert len(batches) < len(pages) / 20
    for batch in batches:
        assert clean_pages(task, batch) == [clean_pages(task, [page])[0] for page in batch]


@pytest.mark.parametrize("extractor", [*FAST, "beautifulsoup"])
def test_some_mutated_pages_are_cleaned_or_dropped(extractor: str) -> None:
    task = CleanHtml.model_validate({"pages": "pages", "extractor": extractor})
    counts = Counter(cleaned(task, *page)[0] for page in mutated_pages(150, seed=3))
    assert counts["kept"] > 75, counts


@pytest.mark.slow
@pytest.mark.parametrize("extractor", FAST)
def test_large_pages_are_cleaned_or_dropped_in_time(extractor: str) -> None:
    warm_up(extractor)
    task = CleanHtml.model_validate({"pages": "pages", "extractor": extractor})
    before = memory()
    slow = {}
    for name, content in LARGE_PAGES.items():
        _, seconds = cleaned(task, content, "text/html")
        if seconds > SECONDS:
            slow[name] = seconds
    assert slow == {}, f"{extractor}: over {SECONDS} s"
    assert memory() - before < MOST_GROWTH


def memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Filter, {"rules": ["length", "characters"]}),
        (Filter, {"rules": ["gopher", "c4", "fineweb"], "languages": ["en", "zh"]}),
        (ScrubPii, {}),
        (Dedup, {"similarity": 0.8, "max_source_loss": 1.0}),
    ],
    ids=["filter", "filter for web text", "scrub_pii", "dedup"],
)
def test_steps_take_hostile_texts(task: type[Any], settings: dict[str, Any], tmp_path: Path) -> None:
    """No document stops a step; what it keeps, it keeps whole rows of, in valid Unicode."""
    documents = make_documents(tmp_path / "documents", [HOSTILE_TEXTS, {"plain": " ".join(ENGLISH)}])
    made = run_task(task.model_validate({"documents": "documents", **settings}), {"documents": documents}, tmp_path)
    assert isinstance(made.artifact, Documents)
    rows = rows_of(made.artifact)
    assert "plain" in rows
    assert set(rows) <= {*HOSTILE_TEXTS, "plain"}
    assert all(str(row["text"]).encode() is not None and row["first_seen"] == 2 for row in rows.values())
    assert not any(name in made.result.metrics for name in ("dropped.timeout", "dropped.crash"))


class Found(NamedTuple):
    """A pattern, and whether its module asks it only about whole strings or their beginnings."""

    pattern: re.Pattern[Any]
    anchored: bool


def patterns() -> dict[str, Found]:
    """Every compiled pattern in the modules of tasks, by module and name."""
    found: dict[str, Found] = {}
    for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
        loaded = importlib.import_module(module.name)
        source = inspect.getsource(loaded)
        for name, value in vars(loaded).items():
            for place, pattern in _patterns_in(value, name, depth=4):
                asked = set(re.findall(rf"\b{name}\.(\w+)\(", source))
                if all(pattern is not known.pattern for known in found.values()):
                    found[f"{module.name}.{place}"] = Found(pattern, bool(asked) and asked <= {"match", "fullmatch"})
    return found


def _patterns_in(value: Any, place: str, depth: int) -> Iterator[tuple[str, re.Pattern[Any]]]:
    if isinstance(value, re.Pattern):
        yield place, value
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _patterns_in(item, f"{place}[{key!r}]", depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield from _patterns_in(item, f"{place}[{index}]", depth - 1)
    elif depth and type(value).__module__.startswith("tasks.") and hasattr(value, "__dict__"):
        yield from _patterns_in(vars(value), place, depth - 1)


def example(parsed: Any) -> str:
    """A string that the parsed pattern begins to match: every repeat a few times, the first of all branches."""
    made = []
    for code, argument in parsed:
        if code in (codes.LITERAL, codes.NOT_LITERAL):
            made.append(chr(argument) if code is codes.LITERAL else other_than({argument}))
        elif code is codes.ANY:
            made.append("x")
        elif code is codes.IN:
            made.append(member(argument))
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            made.append(example(argument[2]) * min(max(argument[0], 1), 30))
        elif code is codes.SUBPATTERN:
            made.append(example(argument[3]))
        elif code is codes.ATOMIC_GROUP:
            made.append(example(argument))
        elif code is codes.BRANCH:
            made.append(example(argument[1][0]))
    return "".join(made)


def member(items: Any) -> str:
    negated = items[0][0] is codes.NEGATE
    codes_of = []
    for code, argument in items:
        if code is codes.LITERAL:
            codes_of.append(argument)
        elif code is codes.RANGE:
            codes_of.append(argument[0])
        elif code is codes.CATEGORY:
            name = str(argument)
            codes_of.append(ord("1" if "DIGIT" in name else " " if "SPACE" in name else "a"))
    return other_than(set(codes_of)) if negated else chr(codes_of[0])


def other_than(taken: set[int]) -> str:
    return next(character for character in "x \n0<" if ord(character) not in taken)


def literals(parsed: Any) -> Iterator[str]:
    """Characters that the parsed pattern mentions."""
    for code, argument in parsed:
        if code is codes.LITERAL:
            yield chr(argument)
        elif code is codes.IN:
            yield member(argument)
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            yield from literals(argument[2])
        elif code is codes.SUBPATTERN:
            yield from literals(argument[3])
        elif code is codes.ATOMIC_GROUP:
            yield from literals(argument)
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from literals(branch)


def adversarial(pattern: re.Pattern[Any]) -> list[str]:
    """Strings to be repeated: characters of the pattern, pairs of them, beginnings of what it matches."""
    text = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    parsed = _parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags)
    mentioned = list(dict.fromkeys(literals(parsed)))[:5]
    whole = example(parsed)
    made = [*mentioned, *(a + b for a, b in itertools.pairwise(mentioned))]
    made += [whole, whole[:-1], whole[: len(whole) // 2], whole[:-1] + "\x01", " ", "a", "\n ", "a "]
    return [piece for piece in dict.fromkeys(made) if piece]


def seconds_to_search(found: Found, piece: str, length: int) -> float:
    """The least of up to three tries to find all matches in ``length`` characters and one that ends the repetition."""
    text: Any = (piece * (length // len(piece) + 1))[:length] + "\x02"
    text = text.encode("latin-1", "replace") if isinstance(found.pattern.pattern, bytes) else text
    least = float("inf")
    for _ in range(3):
        start = time.process_time()
        if found.anchored:
            found.pattern.match(text)
            found.pattern.fullmatch(text)
        else:
            for _ in found.pattern.finditer(text):
                pass
        least = min(least, time.process_time() - start)
        if least < 0.02:
            break
    return least


def is_about_linear(found: Found, piece: str) -> bool:
    """Whether 32,000 characters take hardly any time, or less than nine times as long as 8,000 (quadratic: sixteen)."""
    if seconds_to_search(found, piece, 20) > 0.02 or (short := seconds_to_search(found, piece, 8_000)) > 0.3:
        return False
    long = seconds_to_search(found, piece, 32_000)
    return long < 0.1 or long < 9 * short


@pytest.mark.slow
def test_every_pattern_takes_about_linear_time() -> None:
    """A quadratic one that takes 0.1 s for 32,000 characters takes three hours for ten megabytes."""
    searched = patterns()
    assert len(searched) > 30, sorted(searched)
    worse = []
    for name, found in searched.items():
        for piece in adversarial(found.pattern):
            faulthandler.dump_traceback_later(120, exit=True)
            if not is_about_linear(found, piece):
                worse.append(f"{name}: repeats of {piece[:40]!r}")
    faulthandler.cancel_dump_traceback_later()
    assert worse == [], f"of {len(searched)} patterns"


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"\s+$", r"<[^>]*>"])
def test_the_test_of_patterns_knows_bad_ones(pattern: str) -> None:
    found = Found(re.compile(pattern, re.DOTALL), anchored=False)
    assert not all(is_about_linear(found, piece) for piece in adversarial(found.pattern)[::-1])


def test_parquet_takes_no_lone_surrogates(tmp_path: Path) -> None:
    """So nothing that follows has to expect them; ``clean_html`` gives none (see ``check``)."""
    with pytest.raises(UnicodeEncodeError):
        make_documents(tmp_path / "documents", [{"a": "x\ud800y"}])


def test_a_corpus_of_nothing_but_odd_texts_is_a_failure_that_says_so(tmp_path: Path) -> None:
    documents = make_documents(tmp_path / "documents", [{"a": "\x00", "b": " ", "c": "\u202e"}])
    with pytest.raises(StepFailed, match="none of 3 documents left"):
        run_task(Filter.model_validate({"documents": "documents"}), {"documents": documents}, tmp_path)
    assert read_table(documents.partitions[0].path).num_rows == 3
