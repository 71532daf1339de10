"""The same bytes from a Ray cluster as from this machine, whatever becomes of documents, workers and nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage.errors import StepFailed, UserError
from tasks.clean_html import CleanHtml
from tasks.engines.cluster import environment_of, work_on_node
from tasks.engines.worker import Work
from tasks.task import Guard, Resources
from tests.helpers import run_task
from tests.tasks.corpora import make_pages, rows_of
from tests.tasks.test_clean_html import HTML
from tests.tasks.test_parallel import _context, _partitions, shout

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def slowly(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Note who works on what, take a moment, and write the words in capitals."""
    with Path(payload["log"]).open("a") as log:
        log.write(f"{source.name}\n")
    time.sleep(payload["seconds"])
    words = [guard(word, str.upper, word) for word in pq.read_table(source)["word"].to_pylist()]
    output.write_text(json.dumps(words))
    return {"words": len(words)}


def test_documents_that_hang_or_crash_are_left_out_as_on_one_machine(cluster: Any, tmp_path: Path) -> None:
    words = [["a", "hang", "b", "crash"], ["c", "deep"], ["d"]]
    made = {}
    for engine in ("local", "ray"):
        resources = Resources(engine=engine, address=cluster.address, workers=2)
        context = _context(tmp_path / engine, resources=resources)
        partitions = _partitions(tmp_path / "in", words)
        results = context.map_partitions(shout, {"log": str(tmp_path / "log")}, partitions, seconds_per_document=5)
        made[engine] = [(r.stats, {n: path.read_bytes() for n, path in r.files.items()}) for r in results]
    assert made["ray"] == made["local"]
    assert made["ray"][0][0]["lost"] == {"hang": "timeout", "crash": "crash"}


def test_a_step_makes_the_same_artifact(cluster: Any, tmp_path: Path) -> None:
    page = "<p>Heat {} {} 火候 " + "even " * 60
    made = [{f"{n}-{m}": (page.format(n, m).encode(), HTML) for m in range(3)} for n in range(3)]
    pages = make_pages(tmp_path / "pages", made)
    digests = {}
    for engine in ("local", "ray"):
        resources = Resources(engine=engine, address=cluster.address)
        task = CleanHtml.model_validate({"pages": "pages", "extractor": "beautifulsoup"})
        outcome = run_task(task, {"pages": pages}, tmp_path, name=engine, resources=resources)
        digests[engine] = (outcome.artifact.digest, outcome.artifact.manifest.counts)
    assert digests["ray"] == digests["local"]
    assert rows_of(outcome.artifact)


def test_a_node_that_dies_costs_what_it_was_at_and_nothing_more(cluster: Any, tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [[f"{n}", "word"] for n in range(12)])
    log = tmp_path / "log"
    context = _context(tmp_path, resources=Resources(engine="ray", address=cluster.address))

    def kill() -> None:
        while not log.exists() or len(log.read_text().split()) < 5:
            time.sleep(0.05)
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    results = context.map_partitions(slowly, {"log": str(log), "seconds": 0.5}, partitions)
    killer.join()
    assert [json.loads(r.files[r.name].read_text()) for r in results] == [[f"{n}", "WORD"] for n in range(12)]
    assert set(log.read_text().split()) == {partition.name for partition in partitions}
    assert len(list((tmp_path / "scratch").rglob("current"))) == 0


def test_a_node_with_other_code_or_without_the_folder_is_refused(tmp_path: Path) -> None:
    work = Work(shout, tmp_path / "in", tmp_path / "nowhere", "00000.parquet", 1.0, {})
    with pytest.raises(UserError, match="file system that all nodes share"):
        work_on_node(work, b"", (), {})
    here = environment_of(("tasks.dedup",))
    work = Work(shout, tmp_path / "in", tmp_path, "00000.parquet", 1.0, {})
    with pytest.raises(StepFailed, match=r"python 3\.\d+ instead of 2\.7"):
        work_on_node(work, b"", ("tasks.dedup",), {**here, "python": "2.7"})


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_no_cluster_is_one_line_at_once(address: str) -> None:
    script = f"from tasks.engines.cluster import RayEngine; RayEngine({address!r}, None, ())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert f"UserError: resources.engine: ray: no cluster answers at {address}" in done.stderr
