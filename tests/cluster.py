"""A real Ray cluster for tests. Fixture ``cluster`` is one for all tests of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors and three nodes with one each, all on this machine."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "RAY_DASHBOARD": "0"}
    import ray
    from ray.cluster_utils import Cluster

    node = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
    cluster.workers = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(3)]
    cluster.wait_for_nodes(300)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
