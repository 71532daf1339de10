"""A web server for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tasks.sources.web import Web, served


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as server:
        yield server
