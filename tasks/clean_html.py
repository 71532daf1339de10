"""Raw pages to plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from storage.corpus import DOCUMENTS_SCHEMA, PAGES_SCHEMA, Documents, Pages, read_table, table_of
from storage.identity import canonical_json
from storage.takedown import Takedowns
from tasks.batches import batches
from tasks.html.extractors import MARKDOWN, TOGETHER, all_text, extract_each, tidy, warm_up
from tasks.html.metadata import PageMetadata, metadata_of
from tasks.rows import Positions, RowWork, Worked
from tasks.sources.in_place import Origins, Reader
from tasks.tally import FORGOTTEN, Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Task
from tasks.text.encodings import decode, looks_binary
from tasks.text.unicode import normalise, repair, without_controls

_HTML_TYPES = ("text/html", "application/xhtml+xml", "text/xml", "application/xml")
_NEVER_TEXT = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip")
_BATCH_BYTES = 1 << 20
_BATCH_PAGES = 64
"""Pages are worked on together up to so many, or to so many bytes: enough for what a batch costs to hardly matter for
its pages, and few enough for its columns to stay near the processor."""
_SHOWN_BYTES = 1_000_000
"""Of a page that becomes a sample, so many bytes are made readable."""
_LOOKS_LIKE_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body|div|p|table|meta|title|h[1-6])\b", re.IGNORECASE)


class CleanHtml(Task):
    """Make plain text of pages: decode, extract, repair the Unicode, and note what a page says about itself.

    Title, canonical URL, day of publication, declared language, licence and wishes about the use by AI
    go into columns of their own (see ``tasks.html.metadata``); the licence of a source goes before a page's.

    A page that is already text (``text/plain``, Markdown) is decoded and repaired, and not extracted.
    Pages are dropped, and counted, as ``too_large``, ``not_text``, ``empty``, ``extractor_failed``,
    ``timeout`` or ``crash``. Time and memory grow with the size of a page, not of the corpus.
    """

    makes = Documents
    forgets = "texts"
    libraries = ("beautifulsoup4", "chardet", "ftfy", "lxml", "resiliparse", "trafilatura")

    pages: Input[Pages]
    """Pages as collected, HTML or text."""
    extractor: Literal["athanor", "beautifulsoup", "trafilatura", "resiliparse"] = "athanor"
    """``athanor`` finds the main text with a small network over a page's blocks, as well as ``trafilatura``'s rules do
    and several times as fast; ``resiliparse`` has simple rules; ``beautifulsoup`` leaves out only navigation and
    boilerplate: for documentation in nested tables."""
    output: Literal["text", "markdown"] = "text"
    """``markdown`` marks headings, lists, tables, quotes, code and emphasis; not offered by ``resiliparse``."""
    seconds_per_page: float = Field(20.0, gt=0)
    """A page that takes longer is dropped as ``timeout``."""
    max_page_bytes: int = Field(10_000_000, gt=0)
    """A page larger than this is dropped as ``too_large``."""
    repair_unicode: bool = True
    """Undo text that was decoded with the wrong encoding before it got here (``cafÃ©``)."""

    @model_validator(mode="after")
    def _offered(self) -> Self:
        if self.output == "markdown" and self.extractor not in MARKDOWN:
            raise ValueError(
                f"output: markdown is not offered by the extractor {self.extractor}; "
                f"take one of {', '.join(sorted(MARKDOWN))}, or output: text"
            )
        return self

    def run(self, context: Context) -> Result:
        pages = context.open(self.pages)
        origins = Origins.of(context.maker(self.pages), context.world.folder)
        work = CleanPages(self, context.takedowns, origins)
        results = context.map_rows(work, pages.partitions, seconds_per_document=self.seconds_per_page)
        return result_of("clean_html", results)


@dataclass(frozen=True)
class Cleaned:
    """Text of a page, the Python codec that it was decoded with, and what the page says about itself."""

    text: str
    encoding: str
    said: PageMetadata


@dataclass(frozen=True)
class Dropped:
    """A page that gives no document; ``reason`` is counted."""

    reason: str


@dataclass(frozen=True)
class CleanPages(RowWork):
    """The work of ``CleanHtml`` on pages."""

    task: CleanHtml
    takedowns: Takedowns = field(default_factory=Takedowns)
    origins: Origins | None = None
    """Where pages lie that were left in their files."""

    def load(self, source: Path, name: str) -> pa.Table:
        """Without the contents, for which their digests stand; with them where a digest is missing."""
        rows = read_table(source, [name for name in PAGES_SCHEMA.names if name != "content"])
        return read_table(source) if rows["digest"].null_count else rows

    def load_some(self, source: Path, rows: pa.Table, numbers: Positions) -> pa.Table:
        if "content" not in rows.column_names:
            place = PAGES_SCHEMA.get_field_index("content")
            contents = read_table(source, ["content"])["content"]
            rows = rows.add_column(place, PAGES_SCHEMA.field("content"), contents)
        return super().load_some(source, rows, numbers)

    def outdated(self, files: Mapping[str, Path]) -> Sequence[int]:
        """The documents that are to be forgotten."""
        if self.takedowns.digest("texts") is None:
            return ()
        (path,) = files.values()
        saved = read_table(path, ["text", "title"])
        found = self.takedowns.concern_texts(saved["text"], saved["title"])
        return [] if found is None else np.flatnonzero(found).tolist()

    def doubtful(self) -> str | None:
        """Documents that were left out by a request which may have been withdrawn since."""
        return f"dropped.{FORGOTTEN}" if self.takedowns.withdrawn else None

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Clean the pages in their order."""
        warm_up(self.task.extractor)
        tally, documents, origin = Tally(), [], []
        numbers = count()
        with Reader(self.origins) as reader:
            pages = (page | {"content": reader.content(page)} for page in rows.to_pylist())
            for batch in batches_of(pages, self.task.extractor):
                for page, outcome in zip(batch, self._outcomes(batch, guard), strict=True):
                    tally.row = next(numbers)
                    document = self._settled(page, outcome, tally, guard)
                    if document is not None:
                        documents.append(document)
                        origin.append(tally.row)
        return Worked(table_of(documents, DOCUMENTS_SCHEMA), origin, tally)

    def _outcomes(self, pages: Sequence[dict[str, Any]], guard: Guard) -> list[Cleaned | Dropped]:
        """What becomes of the pages; a batch that fails, or that cost a worker its life, is worked on one by one."""
        if len(pages) > 1:
            try:
                outcomes: list[Cleaned | Dropped] = guard(f"batch from {pages[0]['id']}", clean_pages, self.task, pages)
                return outcomes
            except Exception:  # noqa: BLE001 - some page's fault, and the same will be raised again for that page alone
                return [outcome for page in pages for outcome in self._outcomes([page], guard)]
        try:
            outcomes = guard(pages[0]["id"], clean_pages, self.task, pages)
            return outcomes
        except DocumentLost as lost:
            return [Dropped(lost.reason)]
        except Exception:  # noqa: BLE001 - whatever a library raises on a page, it is that page's fault
            return [Dropped("extractor_failed")]

    def _settled(
        self, page: dict[str, Any], outcome: Cleaned | Dropped, tally: Tally, guard: Guard
    ) -> dict[str, Any] | None:
        """Count what became of a page; its document, if it gives one."""
        size, url = len(page["content"]), page["url"]
        shown = partial(whole_page, guard, page)
        if isinstance(outcome, Dropped):
            tally.drop(outcome.reason, size, url, shown)
            return None
        document = _row(page, outcome)
        if self.takedowns.concern_text(document["text"], document["title"]):
            tally.forget(size)
            return None
        tally.keep(size, outcome.text)
        tally.show("cleaned", shown, outcome.text, url, "the whole page as text", "kept")
        return document


def _row(page: dict[str, Any], cleaned: Cleaned) -> dict[str, Any]:
    """The document of a page.

    The licence that its source has goes before the one that the page states, the language that the
    page declares before its source's; the latter stands as the document's until it is identified.
    """
    said = cleaned.said.columns()
    return {
        **said,
        **{name: page[name] for name in ("id", "url", "source", "first_seen")},
        "license": page["license"] or said["license"],
        "language": page["language"],
        "declared_language": said["declared_language"] or page["language"],
        "text": cleaned.text,
        "metadata": canonical_json({"encoding": cleaned.encoding}),
    }


def _day_of(page: Mapping[str, Any]) -> date | None:
    """When the page was collected, where its source says so."""
    collected: datetime | None = page["collected_at"]
    return collected.date() if collected else None


def batches_of(pages: Iterable[dict[str, Any]], extractor: str) -> Iterator[list[dict[str, Any]]]:
    """The pages in batches of such a size as the extractor works on best."""
    most = _BATCH_PAGES if extractor in TOGETHER else 1
    return batches(pages, lambda page: len(page["content"]), _BATCH_BYTES, most)


def clean_pages(task: CleanHtml, pages: Sequence[Mapping[str, Any]]) -> list[Cleaned | Dropped]:
    """What becomes of each of these rows of pages: the same as of it alone."""
    read = [_read(task, page["content"], page["content_type"]) for page in pages]
    markup = [one.text for one in read if isinstance(one, _Read) and one.is_html]
    extracted = iter(extract_each(markup, task.extractor, task.output == "markdown"))
    outcomes: list[Cleaned | Dropped] = []
    for page, one in zip(pages, read, strict=True):
        if isinstance(one, Dropped):
            outcomes.append(one)
            continue
        said = metadata_of(one.text, page["url"], _day_of(page)) if one.is_html else PageMetadata()
        text = next(extracted) if one.is_html else one.text
        text = repair(text) if task.repair_unicode else normalise(text)
        outcomes.append(Cleaned(text, one.encoding, said) if text.strip() else Dropped("empty"))
    return outcomes


class _Read(NamedTuple):
    """A page as text or markup."""

    text: str
    encoding: str
    is_html: bool


def _read(task: CleanHtml, content: bytes, content_type: str) -> _Read | Dropped:
    """A page decoded; Dropped if it is too large, or no text."""
    if len(content) > task.max_page_bytes:
        return Dropped("too_large")
    mime = content_type.partition(";")[0].strip().lower()
    if mime.startswith(_NEVER_TEXT) or looks_binary(content, content_type):
        return Dropped("not_text")
    maybe_html = mime in _HTML_TYPES or not mime.startswith("text/")
    decoded = decode(content, content_type, maybe_html)
    text = without_controls(decoded.text)
    is_html = mime in _HTML_TYPES or (maybe_html and _LOOKS_LIKE_HTML.search(text[:5_000]) is not None)
    return _Read(text, decoded.encoding, is_html)


def whole_page(guard: Guard, page: dict[str, Any]) -> str:
    """All text that a reader of the page would see, for a person to compare with what was kept."""
    content = page["content"][:_SHOWN_BYTES]
    if page["content_type"].startswith(_NEVER_TEXT) or looks_binary(content, page["content_type"]):
        return f"{len(page['content']):,} bytes of {page['content_type']}"
    text = without_controls(decode(content, page["content_type"], True).text)
    if not _LOOKS_LIKE_HTML.search(text[:5_000]):
        return normalise(text)
    try:
        return tidy(str(guard(page["id"], all_text, text)))
    except Exception as error:  # noqa: BLE001 - a page that breaks the parser is worth seeing all the same
        return f"(cannot be shown as text: {error})\n\n{normalise(text)}"
