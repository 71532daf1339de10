"""A site whose pages come, change and go, and the full rebuild that its refreshes are compared with."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from flows.home import Home
from flows.outcome import StepOutcome
from tests.flows.conftest import make_all, planner_of

WORDS = ["the", "furnace", "keeps", "an", "even", "heat", "for", "weeks", "once", "it", "has", "been", "fed", "coal"]
HANZI = "床前明月光疑是地上霜舉頭望低思故鄉白日依山盡黃河入海流欲窮千里目更上一層樓"
PAGES_OF_A_PARTITION = 4
COLLECT = f"""\
  pages:     {{task: collect, sources: [{{kind: files, path: site}}], partition_pages: {PAGES_OF_A_PARTITION}}}
"""
CLEAN = """\
  documents: {task: clean_html, pages: pages, extractor: resiliparse}
  kept:      {task: filter, documents: documents, rules: [length, characters]}
  scrubbed:  {task: scrub_pii, documents: kept}
  unique:    {task: dedup, documents: scrubbed, similarity: 0.6, max_source_loss: 1}
"""
"""Steps of a recipe, from pages to documents that are kept."""
EXAM = [{"q": "the furnace keeps an", "a": "even heat for weeks"}, {"q": "床前明月光", "a": "疑是地上霜"}]


def text_of(seed: int) -> str:
    """A page: English or Chinese, now and then too short to be kept, or with an address or a question of the exam."""
    chance = random.Random(seed)
    kind, mark = chance.randrange(8), f"no{seed:03}"
    if kind == 0:
        return f"too short {mark}"
    if kind < 4:
        quoted = EXAM[1]["q"] if kind == 3 else ""
        return f"{''.join(chance.choices(HANZI, k=120))}{quoted}，{mark}。"
    address = f" write to {chance.choice(WORDS)}@alchemy.org please" if kind == 4 else ""
    quoted = f" {EXAM[0]['q']} {EXAM[0]['a']}" if kind == 5 else ""
    return " ".join(chance.choices(WORDS, k=60)) + address + quoted + f" {mark}"


def english(seed: int) -> str:
    """A page of sixty words, which every step keeps."""
    return " ".join(random.Random(seed).choices(WORDS, k=60)) + f" {seed}"


def _page(text: str) -> str:
    return f"<!doctype html><html><body><main><p>{text}</p></main></body></html>"


class Site:
    """Pages that come, change, are copied and go: some are files of a folder, the others lines of a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: dict[str, str] = {}
        """Name → text, of all pages that are there. Names of lines end with ``~``."""
        self.gone: dict[str, str] = {}
        """Name → text as it was last, of those that were there."""

    def write(self) -> None:
        """Bring the files up to date, leaving those alone whose content is the same."""
        files = {f"site/{name}.html": _page(text) for name, text in self.pages.items() if not name.endswith("~")}
        lines = [{"url": name, "text": text} for name, text in sorted(self.pages.items()) if name.endswith("~")]
        files["lines.jsonl"] = "".join(f"{json.dumps(line)}\n" for line in lines)
        (self.folder / "site").mkdir(exist_ok=True)
        for path in (self.folder / "site").iterdir():
            if f"site/{path.name}" not in files:
                path.unlink()
        for name, content in files.items():
            if not (self.folder / name).exists() or (self.folder / name).read_text() != content:
                (self.folder / name).write_text(content)


def artifacts_of(outcomes: dict[str, StepOutcome]) -> dict[str, str | None]:
    """What a run made, by the names of its steps."""
    return {name: outcome.artifact for name, outcome in outcomes.items()}


def afresh(home: Home, recipe: str) -> dict[str, StepOutcome]:
    """The same in a copy of the store, where everything after the collection is built without any reuse."""
    copy = Home(home.folder.parent / "copy")
    shutil.rmtree(copy.folder, ignore_errors=True)
    shutil.copytree(home.folder, copy.folder, symlinks=True)
    shutil.rmtree(copy.folder / "views", ignore_errors=True)
    return make_all(planner_of(copy, recipe, rebuild=frozenset(["documents"])))
