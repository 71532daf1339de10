"""Pages that are records with named columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Self

from pydantic import Field, model_validator

from tasks.sources.base import Bad, Item, Page, PassedOver
from tasks.sources.in_files import Containers
from tasks.sources.sniff import TEXT, content_type_of

MISSING = object()
"""What stands where a record has no such column."""
_UTF8 = "; charset=utf-8"


class Columns(Containers):
    """A source of records. A column may lie within another: ``meta.url`` is the column ``url`` of ``meta``.

    A page's ``url`` is what the column ``url`` holds; without one, the file's path relative to the root, ``#``, and
    what the column ``id`` holds, or the record's number in the file (from 1). With both columns it is the URL,
    ``#``, and the id. A number moves with the records before it, so name a column where there is one.
    """

    text: str | None = Field(None, min_length=1)
    """The column with a page's text, which is not extracted again; ``text`` if neither this nor ``content`` is set."""
    content: str | None = Field(None, min_length=1)
    """The column with a raw page, HTML or text, as text or bytes; instead of ``text``."""
    content_type: str | None = Field(None, min_length=1)
    """The column with the MIME type of ``content``; otherwise it is told from the content."""
    url: str | None = Field(None, min_length=1)
    """The column with the page's address."""
    id: str | None = Field(None, min_length=1)
    """The column with the record's key, unique within the file (within the URL, where ``url`` is set too)."""
    date: str | None = Field(None, min_length=1)
    """The column with the time when the page was fetched: ISO 8601, or seconds since 1970."""

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if self.text and self.content:
            raise ValueError("set `text` or `content`, not both")
        if self.content_type and not self.content:
            raise ValueError("`content_type` belongs to `content`; set that too")
        return self

    @property
    def body(self) -> str:
        """The column with a page's text or content."""
        return self.content or self.text or "text"

    def wanted(self) -> list[str]:
        """The columns that are read."""
        chosen = (self.body, self.content_type, self.url, self.id, self.date)
        return list(dict.fromkeys(column for column in chosen if column))

    def page(self, place: str, file: str, number: int, record: Mapping[str, Any]) -> Item:
        """The page of a record; ``place`` names it in a report."""
        values = {column: value_of(record, column) for column in self.wanted()}
        missing = [column for column in (self.body, self.url, self.id) if column and values[column] is MISSING]
        if missing:
            has = ", ".join(map(str, record)) or "none"
            return Bad(place, "column_missing", f"there is no column {missing[0]!r}; its columns are {has}"[:300])
        body = values[self.body]
        if body is None or body == "" or body == b"":
            return PassedOver(place, "empty")
        if not isinstance(body, (str, bytes)):
            return Bad(place, "column_type", f"{self.body!r} holds a {type(body).__name__}, not text")
        url = self._url(values, file, number)
        if url is None:
            return Bad(place, "key_missing", f"no value in the column {self.url or self.id!r}")
        content = body if isinstance(body, bytes) else body.encode("utf-8", "replace")
        if len(content) > self.max_page_bytes:
            return PassedOver(place, "too_large")
        content_type = self._type(values, url, content, isinstance(body, str))
        if content_type is None:
            return PassedOver(place, "not_a_page")
        return Page(url, content, content_type, _time(values.get(self.date or "")))

    def _url(self, values: Mapping[str, Any], file: str, number: int) -> str | None:
        """The page's URL; None if the record's key is empty."""
        parts = []
        for column in (self.url, self.id):
            value = values[column] if column else None
            if column and (value is None or isinstance(value, (dict, list, bytes)) or not str(value).strip()):
                return None
            parts.append(str(value).strip().encode("utf-8", "replace").decode() if column else "")
        url, key = parts
        if url:
            return f"{url}#{key}" if key else url
        return f"{file}#{key or number}"

    def _type(self, values: Mapping[str, Any], url: str, content: bytes, decoded: bool) -> str | None:
        """The MIME type. A record's text has no encoding of its own: it is UTF-8 whatever a page says."""
        if not self.content:
            return TEXT + (_UTF8 if decoded else "")
        stated = values.get(self.content_type or "")
        known = stated.strip() if isinstance(stated, str) and stated.strip() else content_type_of("", content)
        if known is None or not decoded:
            return known
        return known.partition(";")[0].strip() + _UTF8


def value_of(record: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of one within another; a marker of its own where there is none."""
    if column in record:
        return record[column]
    outer, dot, inner = column.partition(".")
    if dot and isinstance(record.get(outer), Mapping):
        return value_of(record[outer], inner)
    return MISSING


def _time(value: Any) -> datetime | None:
    """When a page was fetched, in UTC; None where the column holds no time."""
    try:
        if isinstance(value, datetime):
            found = value
        elif isinstance(value, date):
            found = datetime(value.year, value.month, value.day)
        elif isinstance(value, str):
            found = datetime.fromisoformat(value.strip())
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        else:
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
