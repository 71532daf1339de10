"""Where pages come from: one file per kind of source, all of them listed here."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.sources.files import Files
from tasks.sources.http.source import Http
from tasks.sources.pydoc import Pydoc

SOURCES = (Files, Http, Pydoc)
AnySource = Annotated[Files | Http | Pydoc, Field(discriminator="kind")]
"""The settings of a source, told apart by ``kind``."""
