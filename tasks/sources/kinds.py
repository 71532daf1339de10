"""The kinds of source of pages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.sources.files import Files, Markdown
from tasks.sources.http.source import Http
from tasks.sources.jsonl import Jsonl
from tasks.sources.parquet import Parquet
from tasks.sources.pydoc import Pydoc
from tasks.sources.text import Text
from tasks.sources.warc.source import Warc

SOURCES = (Files, Http, Jsonl, Markdown, Parquet, Pydoc, Text, Warc)
AnySource = Annotated[Files | Http | Jsonl | Markdown | Parquet | Pydoc | Text | Warc, Field(discriminator="kind")]
"""The settings of a source, told apart by ``kind``."""
