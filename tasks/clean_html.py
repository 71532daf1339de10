"""Raw pages to plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from storage.corpus import DOCUMENTS_SCHEMA, Documents, Pages, read_table, table_of
from storage.identity import canonical_json
from storage.takedown import Takedowns
from tasks.html.extractors import MARKDOWN, all_text, extract, tidy, warm_up
from tasks.html.metadata import PageMetadata, metadata_of
from tasks.rows import RowWork, Worked
from tasks.sources.in_place import Origins, Reader
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Task
from tasks.text.encodings import decode, looks_binary
from tasks.text.unicode import normalise, repair, without_controls

_HTML_TYPES = ("text/html", "application/xhtml+xml", "text/xml", "application/xml")
_NEVER_TEXT = ("image/", "audio/", "video/", "font/", "application/pdf", "application/zip")
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


class Dropped(Exception):
    """This page gives no document; ``reason`` is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class CleanPages(RowWork):
    """The work of ``CleanHtml`` on pages."""

    task: CleanHtml
    takedowns: Takedowns = field(default_factory=Takedowns)
    origins: Origins | None = None
    """Where pages lie that were left in their files."""

    def outdated(self, files: Mapping[str, Path]) -> Sequence[int]:
        """The documents that are to be forgotten."""
        if self.takedowns.digest("texts") is None:
            return ()
        (path,) = files.values()
        saved = read_table(path, ["text", "title"])
        found = self.takedowns.concern_texts(saved["text"], saved["title"])
        return [] if found is None else np.flatnonzero(found).tolist()

    def work(self, rows: pa.Table, guard: Guard) -> Worked:
        """Clean the pages in their order."""
        warm_up(self.task.extractor)
        tally, documents, origin = Tally(), [], []
        with Reader(self.origins) as reader:
            for number, page in enumerate(rows.to_pylist()):
                tally.row = number
                page["content"] = reader.content(page)
                document = self._document(page, tally, guard)
                if document is not None:
                    documents.append(document)
                    origin.append(number)
        return Worked(table_of(documents, DOCUMENTS_SCHEMA), origin, tally)

    def _document(self, page: dict[str, Any], tally: Tally, guard: Guard) -> dict[str, Any] | None:
        """Clean a page, and count what became of it."""
        content, url = page["content"], page["url"]
        shown = partial(whole_page, guard, page)
        try:
            cleaned = guard(page["id"], clean_page, self.task, content, page["content_type"], url, _day_of(page))
        except (Dropped, DocumentLost) as dropped:
            tally.drop(dropped.reason, len(content), url, shown)
            return None
        except Exception:  # noqa: BLE001 - whatever a library raises on a page, it is that page's fault
            tally.drop("extractor_failed", len(content), url, shown)
            return None
        document = _row(page, cleaned)
        if self.takedowns.concern_text(document["text"], document["title"]):
            tally.forget(len(content))
            return None
        tally.keep(len(content), cleaned.text)
        tally.show("cleaned", shown, cleaned.text, url, "the whole page as text", "kept")
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


def _day_of(page: dict[str, Any]) -> date | None:
    """When the page was collected, where its source says so."""
    return page["collected_at"].date() if page["collected_at"] else None


def clean_page(
    task: CleanHtml, content: bytes, content_type: str, url: str = "", collected: date | None = None
) -> Cleaned:
    """What becomes of one page, found at ``url`` on the day ``collected``.

    Raises Dropped for a page that is too large, no text, or empty.
    """
    if len(content) > task.max_page_bytes:
        raise Dropped("too_large")
    mime = content_type.partition(";")[0].strip().lower()
    if mime.startswith(_NEVER_TEXT) or looks_binary(content, content_type):
        raise Dropped("not_text")
    maybe_html = mime in _HTML_TYPES or not mime.startswith("text/")
    decoded = decode(content, content_type, maybe_html)
    text, said = without_controls(decoded.text), PageMetadata()
    if mime in _HTML_TYPES or (maybe_html and _LOOKS_LIKE_HTML.search(text[:5_000])):
        said = metadata_of(text, url, collected)
        text = extract(text, task.extractor, task.output == "markdown")
    text = repair(text) if task.repair_unicode else normalise(text)
    if not text.strip():
        raise Dropped("empty")
    return Cleaned(text, decoded.encoding, said)


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
