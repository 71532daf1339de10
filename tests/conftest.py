"""Fixtures that tests of several folders use, and how all property tests search."""

import importlib
import os

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import cluster
from tests.gs import gs
from tests.s3 import s3, s3_server

# No example may fail for the machine's load, nor may a check before a change lands by the luck of the draw.
settings.register_profile(
    "athanor", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("athanor")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting and not importlib.import_module("torch").cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="there is no GPU here that torch can use"))


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> str:
    """Address of an empty bucket of each kind of store."""
    url: str = request.getfixturevalue(request.param).url
    return url


__all__ = ["cluster", "gs", "s3", "s3_server"]
