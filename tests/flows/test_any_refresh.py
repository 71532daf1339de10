"""Refreshes in any order make, byte for byte, what a full rebuild makes of the same collection."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from flows import requests
from flows.forget import forget
from flows.home import Home
from flows.outcome import StepOutcome
from storage.corpus import Documents, document_id
from storage.takedown import Request
from tests.flows.conftest import built, make_all, planner_of
from tests.flows.site import EXAM, Site, afresh, text_of
from tests.made import made_tokenizer

RECIPE = """\
name: toy
steps:
  pages:
    task: collect
    sources: [{kind: files, path: site}, {kind: jsonl, path: lines.jsonl, url: url}]
    partition_pages: 4
    compact_partitions: 2
    vanished: VANISHED
  documents: {task: clean_html, pages: pages, extractor: resiliparse}
  kept:      {task: filter, documents: documents, rules: [length, characters]}
  scrubbed:  {task: scrub_pii, documents: kept}
  cut:       {task: drop_passages, documents: scrubbed, unit: words, words: 20, per: corpus, min_documents: 2,
              max_source_loss: 1}
  unique:    {task: dedup, documents: scrubbed, similarity: 0.6, max_source_loss: 1}
  exam:      {task: examples, sources: [{kind: jsonl, path: exam.jsonl, prompt: q, response: a}]}
  clean:     {task: decontaminate, documents: unique, against: [exam], ngram_words: 5, short_item_words: 3,
              common_in: 3, action: cut, margin_characters: 5, piece_characters: 20}
  tokenizer: {task: train_tokenizer, documents: [clean, cut], vocab_size: 400, pin: false}
  shards:    {task: shard, documents: unique, tokenizer: {path: bytes}, validation_fraction: 0.3}
resources: {workers: 1}
"""
REUSE = {"partitions_reused", "rows_reused"}


class World:
    """A site, a store of its collections, and what ought to be in them."""

    def __init__(self, folder: Path, vanished: str) -> None:
        self.site, self.vanished = Site(folder), vanished
        self.home = Home(folder / "home")
        self.recipe = RECIPE.replace("VANISHED", vanished)
        self.collected: dict[str, str] = {}
        """Name → text, of the pages that the last collection ought to have."""
        self.asked: dict[int, Request] = {}
        """The requests to forget that are to be obeyed, by their numbers."""
        made_tokenizer(folder / "bytes")
        (folder / "exam.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in EXAM))
        self.site.pages = {f"{n:02}{'~' * (n % 2)}": text_of(n) for n in STAY}
        self.site.write()

    def change(self, what: str, which: int, seed: int) -> None:
        """One thing that happens to the site, or is asked for; ``which`` page or request it happens to."""
        site = self.site
        others = sorted(name for name in site.pages if int(name[:2]) not in STAY)
        one = others[which % len(others)] if others else None
        new = f"{max(int(name[:2]) for name in site.pages | site.gone) + 1:02}{'~' * (seed % 2)}"
        any_page = sorted(site.pages)[which % len(site.pages)]
        if what == "add":
            site.pages[new] = text_of(seed)
        elif what == "copy":
            site.pages[new] = site.pages[any_page]
        elif what == "nearly":
            site.pages[new] = f"{site.pages[any_page]} indeed"
        elif what == "return" and site.gone:
            name = sorted(site.gone)[which % len(site.gone)]
            site.pages[name] = site.gone.pop(name)
        elif what == "edit" and one is not None:
            site.pages[one] = text_of(seed)
        elif what == "remove" and one is not None:
            site.gone[one] = site.pages.pop(one)
        elif what == "forget" and one is not None:
            self._forget(one, ("urls", "texts", "ids")[seed % 3])
        elif what == "withdraw" and self.asked:
            number = sorted(self.asked)[which % len(self.asked)]
            requests.withdraw(self.home.open_store(), number)
            del self.asked[number]

    def _forget(self, name: str, how: str) -> None:
        text = self.site.pages[name]
        url, source = (name, "jsonl") if name.endswith("~") else (f"{name}.html", "files")
        value = {"urls": url, "texts": text[text.index("no") :][:5], "ids": document_id(source, url)}[how]
        request = Request.model_validate({"at": datetime.now(UTC), how: (value,)})
        number = forget(self.home.open_store(), request)["request"]
        self.asked[number] = request.model_copy(update={"reason": name})

    def refresh(self) -> dict[str, StepOutcome]:
        """Run the recipe, and compare all that it makes with what is made afresh of the same collection."""
        self.site.write()
        refreshed = make_all(planner_of(self.home, self.recipe))
        fresh = afresh(self.home, self.recipe)
        derived = [name for name in fresh if name not in ("pages", "exam")]
        assert {n: refreshed[n].artifact for n in derived} == {n: fresh[n].artifact for n in derived}
        assert fresh["pages"].status == "reused"
        for name in derived:
            mine, theirs = (
                {k: v for k, v in outcomes[name].metrics.items() if k not in REUSE} for outcomes in (refreshed, fresh)
            )
            assert mine == theirs, name
            assert not any(fresh[name].metrics.get(count) for count in REUSE), name
        assert self._urls(refreshed["documents"]) == self._expected()
        return refreshed

    def _urls(self, outcome: StepOutcome) -> set[str]:
        documents = self.home.open_store().open(str(outcome.artifact))
        assert isinstance(documents, Documents)
        return {url.removesuffix(".html") for table in documents.tables(["url"]) for url in table["url"].to_pylist()}

    def _expected(self) -> set[str]:
        """The names of the pages that there ought to be a document of."""
        left = self.collected if self.vanished == "keep" else {}
        by_page = {request.reason for request in self.asked.values() if not request.texts}
        self.collected = {name: text for name, text in {**left, **self.site.pages}.items() if name not in by_page}
        texts = [text for request in self.asked.values() for text in request.texts]
        return {name for name, page in self.collected.items() if not any(text in page for text in texts)}


STAY = range(8)
"""Numbers of the pages that always stay, so that no step is left without any."""
Change = tuple[str, int, int]
CHANGES = ["add", "add", "edit", "copy", "nearly", "remove", "remove", "return", "forget", "withdraw"]
REFRESHES = st.lists(
    st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=5),
    min_size=4,
    max_size=7,
)
# A copy comes while the older page stays, then that goes, then it returns; pages are forgotten by text and by page, in
# both sources, and one of the requests is withdrawn; many small refreshes, whose partitions are merged.
STORY: list[list[Change]] = [
    [("add", 0, 4), ("add", 0, 11), ("nearly", 8, 20), ("nearly", 9, 31)],
    [("remove", 0, 0), ("copy", 2, 12), ("edit", 1, 16)],
    [("return", 0, 0), ("forget", 1, 1), ("forget", 2, 0)],
    [("withdraw", 0, 0), ("add", 0, 17)],
]


def refreshes_equal_rebuilds(refreshes: Sequence[Sequence[Change]], vanished: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), vanished)
        world.refresh()
        for changes in refreshes:
            for change in changes:
                world.change(*change)
            world.refresh()
        assert built(make_all(planner_of(world.home, world.recipe))) == []


def test_a_story_of_refreshes_equals_full_rebuilds() -> None:
    refreshes_equal_rebuilds(STORY, "drop")


@pytest.mark.slow
@example(refreshes=STORY, vanished="keep")
@example(refreshes=[[("add", 0, n)] for n in range(10, 17)], vanished="drop")
@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(refreshes=REFRESHES, vanished=st.sampled_from(["drop", "keep"]))
def test_any_refreshes_equal_full_rebuilds(refreshes: Sequence[Sequence[Change]], vanished: str) -> None:
    refreshes_equal_rebuilds(refreshes, vanished)
