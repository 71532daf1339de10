"""Requests to leave documents out: recorded once, and obeyed by every later build until they are withdrawn.

    takedowns/NUMBER.json    one request each, or the withdrawal of one; nothing changes or removes them

A request that names documents by what is known of a page (its URL, its domain, its id) is obeyed
when pages are collected, one that names a text when texts have been extracted, and both when
examples are made, which may come from elsewhere. Since requests are
only ever added, what obeys them today does so tomorrow; only a withdrawal makes results doubtful
from which a document was left out, and these are looked at again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Literal, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from storage.identity import canonical_json, digest_of_value

Mask = npt.NDArray[np.bool_]
Where = Literal["pages", "texts", "pairs"]
"""Where requests are obeyed: when pages are collected, when texts have been extracted, or when examples are made."""

_FOLDER = "takedowns"


class SmallFiles(Protocol):
    """Where requests are kept: the part of ``storage.place.Place`` that is needed."""

    def names(self, folder: str) -> list[str]: ...

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> bool: ...


class Request(BaseModel):
    """What somebody wants left out."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    at: datetime
    urls: tuple[str, ...] = ()
    """Pages at exactly these URLs, fragments and the case of the host apart."""
    domains: tuple[str, ...] = ()
    """Pages of these hosts and of all below them."""
    ids: tuple[str, ...] = ()
    """Documents with these ids, and what was derived from them."""
    texts: tuple[str, ...] = ()
    """Documents whose text or title holds one of these, whatever its case and the spaces between its words."""
    reason: str = ""
    purge: bool = False
    """Whether what holds them already is destroyed."""
    found: tuple[str, ...] = ()
    """Ids of the documents in the store that it concerned when it was made."""
    withdraws: int | None = None
    """Number of the request that is not to be obeyed any more; such a record asks for nothing else."""


class Takedowns:
    """All requests of a store, as they are obeyed. A picklable value."""

    def __init__(self, records: Sequence[Request] = ()) -> None:
        self.records = list(records)
        """Requests and withdrawals, in their order."""
        self.withdrawn = {record.withdraws: record for record in self.records if record.withdraws is not None}
        """Number of a request → its withdrawal."""
        self.requests = [r for r in self.records if r.withdraws is None and r.number not in self.withdrawn]
        """Those that are obeyed."""
        # A purged document must not come back as a page, where its text cannot be looked for.
        purged = [identity for request in self.requests if request.purge for identity in request.found]
        self._urls = {_url(url) for request in self.requests for url in request.urls}
        self._domains = {domain.lower() for request in self.requests for domain in request.domains}
        self._ids = {*purged, *(identity for request in self.requests for identity in request.ids)}
        self._found = {identity for request in self.requests for identity in request.found} | self._ids
        self._texts = sorted({text for request in self.requests for text in request.texts})

    @classmethod
    def of(cls, files: SmallFiles) -> Takedowns:
        """Those that a store holds, in the order in which they were made."""
        contents = [files.read(f"{_FOLDER}/{name}") for name in sorted(files.names(_FOLDER))]
        return cls([Request.model_validate_json(content) for content in contents if content is not None])

    def digest(self, where: Where) -> str | None:
        """Stands for all requests that are obeyed there; None if there are none."""
        pages = [sorted(self._urls), sorted(self._domains), sorted(self._ids)]
        said = {"pages": pages, "texts": [self._texts], "pairs": [sorted(self._found), self._texts]}[where]
        return digest_of_value(said) if any(said) else None

    def concern_page(self, identity: str, url: str) -> bool:
        """Whether the page with this id and URL is to be left out."""
        if not (self._urls or self._domains or self._ids):
            return False
        return identity.partition("#")[0] in self._ids or _url(url) in self._urls or self._of_domains(url)

    def concern_text(self, text: str, title: str | None = None) -> bool:
        """Whether a document with this text and title is to be left out."""
        found = self.concern_texts(pa.array([text]), pa.array([title], pa.string())) if self._texts else None
        return found is not None and bool(found[0])

    def concern_pair(self, identities: Sequence[str], prompt: str, response: str) -> bool:
        """Whether an example with these ids, its own and its document's, is to be left out."""
        return not self._found.isdisjoint(identities) or self.concern_text(response, prompt)

    def concern_texts(self, texts: pa.Array | pa.ChunkedArray, titles: pa.Array | pa.ChunkedArray) -> Mask | None:
        """Which of these documents are to be left out, as concern_text says; None if no request names a text."""
        if not self._texts:
            return None
        found = np.zeros(len(texts), np.bool_)
        for column in (texts, titles):
            matched = pc.fill_null(pc.match_substring_regex(column, self._pattern), False)
            found |= matched.to_numpy(zero_copy_only=False) if isinstance(matched, pa.Array) else matched.to_numpy()
        return found

    @cached_property
    def _pattern(self) -> str:
        """A regular expression (RE2) for all texts."""
        return "(?i)" + "|".join(r"\s+".join(map(re.escape, text.split())) for text in self._texts)

    def _of_domains(self, url: str) -> bool:
        if not self._domains:
            return False
        try:
            host = (urlsplit(url).hostname or "").split(".")
        except ValueError:
            return False
        return any(".".join(host[start:]) in self._domains for start in range(len(host)))


def record(files: SmallFiles, request: Request) -> Request:
    """Add a request, or a withdrawal; returns it with its number."""
    while True:
        names = files.names(_FOLDER)
        number = max((int(name.removesuffix(".json")) for name in names), default=0) + 1
        numbered = request.model_copy(update={"number": number})
        content = canonical_json(json.loads(numbered.model_dump_json())).encode()
        if files.write(f"{_FOLDER}/{number:06}.json", content, exclusive=True):
            return numbered


def _url(url: str) -> str:
    """The URL without what makes no other page of it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if not parts.netloc:
        return url
    return parts._replace(
        fragment="", scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), path=parts.path or "/"
    ).geturl()
