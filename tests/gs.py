"""A real endpoint of Google Cloud Storage for tests: an emulator in a thread.

Fixture ``gs`` gives a test an empty bucket of its own, and sets the environment so that ``gs://``
addresses lead there, in this process and in those it starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from tests.ports import closed_port

_buckets = count()


@dataclass(frozen=True)
class GS:
    """A running server, and a bucket of it."""

    endpoint: str
    url: str
    """Address of the bucket."""


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[GS]:
    """An empty bucket, where ``gs://`` addresses of this test lead."""
    gcsfs = pytest.importorskip("gcsfs", reason="the extra gs is not installed")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="no emulator of Cloud Storage is installed")
    for name in ("gcp_storage_emulator", "gcsfs"):
        logging.getLogger(name).setLevel(logging.ERROR)
    port, bucket = closed_port(), f"bucket-{next(_buckets)}"
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket)
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    # What kind of bucket it is would be asked for over gRPC, which the emulator does not speak.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield GS(f"http://127.0.0.1:{port}", f"gs://{bucket}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()
