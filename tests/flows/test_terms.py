"""What a source says of its pages stays with their documents, through every step that hands documents on."""

from __future__ import annotations

from flows.home import Home
from storage.corpus import Documents
from tests.flows.conftest import make_all, planner_of
from tests.flows.site import Site, english

RECIPE = """\
name: toy
steps:
  pages:
    task: collect
    sources:
      - {kind: files, path: site, name: handbook, license: CC-BY-4.0, language: en}
      - {kind: jsonl, path: lines.jsonl, url: url, name: letters, license: MIT, language: de}
    partition_pages: 4
  documents: {task: clean_html, pages: pages, extractor: resiliparse}
  kept:      {task: filter, documents: documents, rules: [length, characters]}
  scrubbed:  {task: scrub_pii, documents: kept}
  cut:       {task: drop_passages, documents: scrubbed, max_source_loss: 1}
  unique:    {task: dedup, documents: cut, similarity: 0.6, max_source_loss: 1}
resources: {workers: 1}
"""


def test_name_licence_and_language_follow_documents_through_every_step(home: Home) -> None:
    site = Site(home.folder.parent)
    site.pages = {f"{number:02}{'~' * (number % 2)}": english(number) for number in range(12)}
    site.write()
    outcomes = make_all(planner_of(home, RECIPE))
    for step in ("documents", "kept", "scrubbed", "cut", "unique"):
        documents = home.open_store().open(str(outcomes[step].artifact))
        assert isinstance(documents, Documents)
        rows = [row for table in documents.tables() for row in table.to_pylist()]
        # A hint stands until the language is identified, which filter does.
        hinted = "de" if step == "documents" else "en"
        assert sorted((row["source"], row["license"], row["language"]) for row in rows) == [
            *[("handbook", "CC-BY-4.0", "en")] * 6,
            *[("letters", "MIT", hinted)] * 6,
        ], step
