"""Partitions are worked on exactly once, whatever becomes of the workers."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.corpus import Partition
from storage.errors import StepFailed
from storage.identity import digest_of_file
from tasks.context import PlainWorld, RunContext
from tasks.engines import local
from tasks.parallel import start_workers
from tasks.task import DocumentLost, Guard, Resources
from tests.helpers import FolderMemory


def _partitions(folder: Path, words: list[list[str]]) -> list[Partition]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, rows in enumerate(words):
        path = folder / f"{number:05}.parquet"
        pq.write_table(pa.table({"word": rows}), path)
        made.append(Partition(path.name, path, digest_of_file(path)))
    return made


def _context(folder: Path, **changes: Any) -> RunContext:
    values: dict[str, Any] = {
        "output": folder / "output",
        "scratch": folder / "scratch",
        "world": PlainWorld(folder),
        "resources": Resources(workers=2),
    }
    return RunContext(**(values | changes))


def shout(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Upper-case every word; ``hang``, ``crash``, ``deep`` and ``once`` misbehave."""
    kept, lost = [], {}
    for word in pq.read_table(source)["word"].to_pylist():
        try:
            kept.append(guard(word, _shout, word, payload))
        except DocumentLost as error:
            lost[word] = error.reason
    with (Path(payload["log"])).open("a") as log:
        log.write(source.name + "\n")
    output.write_text(json.dumps(kept))
    return {"kept": len(kept), "lost": lost}


def _shout(word: str, payload: dict[str, Any]) -> str:
    if word == "hang":
        ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the interpreter's lock, as a stuck C library would
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "deep":
        return _shout(word, payload) + "!"
    return word.upper()


def die_outside(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Kill the worker where no document is to blame."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_results_come_in_order_with_their_stats(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a", "b"], ["c"], [], ["d", "e", "f"]])
    results = _context(tmp_path).map_partitions(shout, {"log": str(tmp_path / "log")}, partitions)
    assert [result.name for result in results] == [p.name for p in partitions]
    assert [result.stats["kept"] for result in results] == [2, 1, 0, 3]
    assert json.loads((tmp_path / "output" / "00003.parquet").read_text()) == ["D", "E", "F"]


def test_a_document_that_hangs_or_crashes_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a", "hang", "b", "crash", "deep", "c"], ["d"]])
    results = _context(tmp_path).map_partitions(
        shout, {"log": str(tmp_path / "log")}, partitions, seconds_per_document=5
    )
    assert results[0].stats == {"kept": 3, "lost": {"hang": "timeout", "crash": "crash", "deep": "crash"}}
    assert json.loads(results[0].files["00000.parquet"].read_text()) == ["A", "B", "C"]
    assert results[1].stats == {"kept": 1, "lost": {}}


def test_a_worker_that_is_killed_again_and_again_for_no_document_fails_the_step(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a"]])
    with pytest.raises(StepFailed, match=r"00000\.parquet.*was killed again and again"):
        _context(tmp_path).map_partitions(die_outside, {}, partitions)


def test_a_worker_that_is_killed_once_costs_a_try_and_no_document(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a", "b"], ["c"]])
    payload = {"log": str(tmp_path / "log"), "kill": "00000.parquet"}
    results = _context(tmp_path).map_partitions(killed_at_first, payload, partitions)
    assert [result.stats for result in results] == [{"words": 2, "lost": []}, {"words": 1, "lost": []}]
    assert sorted((tmp_path / "log").read_text().split()) == ["00000.parquet"] * 2 + ["00001.parquet"]


def killed_at_first(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Be killed from outside in the middle of a document, but for the first time only."""
    known = Path(payload["log"]).read_text() if Path(payload["log"]).exists() else ""
    with Path(payload["log"]).open("a") as log:
        log.write(source.name + "\n")
    lost = []
    words = pq.read_table(source)["word"].to_pylist()
    for word in words:
        try:
            if source.name == payload["kill"] and source.name not in known:
                guard(word, os.kill, os.getpid(), signal.SIGKILL)
            guard(word, str.upper, word)
        except DocumentLost:
            lost.append(word)
    output.write_text("")
    return {"words": len(words), "lost": lost}


def greedy(payload: dict[str, Any], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Take memory, and hold it until so many have begun to."""
    log, until = Path(payload["log"]), time.monotonic() + 60
    with log.open("a") as file:
        file.write(source.name + "\n")
    taken = b"x" * payload["bytes"]
    while len(log.read_text().split()) < payload["together"] and time.monotonic() < until:
        time.sleep(0.05)
    output.write_text(f"{len(taken)}")
    return {"words": pq.read_table(source).num_rows}


def test_no_more_partitions_are_handed_out_than_the_workers_can_take(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a"]] * 30)
    stages: list[int] = []
    scratch = tmp_path / "scratch"
    counted = lambda *_: stages.append(sum(path.is_dir() for path in scratch.glob("partitions/*/*.*")))  # noqa: E731
    _context(tmp_path, progress=counted).map_partitions(shout, {"log": str(tmp_path / "log")}, partitions)
    assert len(stages) == 30
    assert max(stages) <= 2 * 2 + 8 + 2 * 2, "two workers, two waiting, what is being published, and what waits for it"
    assert list(scratch.rglob("current")) == []


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path) -> None:
    partitions = _partitions(tmp_path / "in", [["a"], ["b"], ["c"]])
    payload = {"log": str(tmp_path / "log")}
    context = _context(tmp_path)
    context.map_partitions(shout, payload, partitions[:2])
    results = context.map_partitions(shout, payload, partitions)
    assert sorted((tmp_path / "log").read_text().split()) == ["00000.parquet", "00001.parquet", "00002.parquet"]
    assert [result.stats["kept"] for result in results] == [1, 1, 1]


def test_the_memory_of_earlier_builds_is_used_by_content_not_by_name(tmp_path: Path) -> None:
    memory = FolderMemory(tmp_path / "memory")
    payload = {"log": str(tmp_path / "log")}
    first = _partitions(tmp_path / "in", [["a"], ["b"]])
    _context(tmp_path / "1", memory=memory, identity="x").map_partitions(shout, payload, first)
    second = _partitions(tmp_path / "in2", [["new"], ["a"]])
    results = _context(tmp_path / "2", memory=memory, identity="x").map_partitions(shout, payload, second)
    assert [result.reused for result in results] == [False, True]
    assert json.loads((tmp_path / "2" / "output" / "00001.parquet").read_text()) == ["A"]
    results = _context(tmp_path / "3", memory=memory, identity="y").map_partitions(shout, payload, second)
    assert [result.reused for result in results] == [False, False]


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, os
        from pathlib import Path
        from tests.tasks.test_parallel import _context, _partitions, wait_long
        if __name__ == "__main__":
            folder = Path(sys.argv[1])
            _context(folder).map_partitions(wait_long, str(folder), _partitions(folder / "in", [["a"], ["b"]]))
    """)
    program = tmp_path / "program.py"
    program.write_text(script)
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)], env={**os.environ, "PYTHONPATH": str(root)}
    )
    pids = _eventually(lambda: [int(p.read_text()) for p in tmp_path.glob("pid-*")], lambda found: len(found) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _eventually(lambda: [pid for pid in pids if _alive(pid)], lambda alive: not alive)


def wait_long(payload: str, source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Say who is working, then work for long."""
    beside = Path(payload) / f".pid-{source.stem}"
    beside.write_text(str(os.getpid()))
    beside.rename(Path(payload) / f"pid-{source.stem}")
    time.sleep(600)
    return {}


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except FileNotFoundError:
        return False


def _eventually(look: Any, enough: Any, seconds: float = 300) -> Any:
    end = time.monotonic() + seconds
    while not enough(found := look()):
        assert time.monotonic() < end, f"still {found} after {seconds} s"
        time.sleep(0.1)
    return found


def modules_there(payload: list[str], source: Path, output: Path, guard: Guard) -> dict[str, Any]:
    """Say which of these modules this worker had before it was given anything to do with them."""
    output.write_text("")
    return {"there": [name for name in payload if name in sys.modules]}


def test_workers_that_were_started_ahead_have_imported_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_pools", {})
    threads = set(threading.enumerate())
    start_workers(Resources(workers=1), ["tasks.packed"])
    for thread in set(threading.enumerate()) - threads:
        if thread.name == "start-workers":
            thread.join()
    pool = local._pools[1]
    context = _context(tmp_path, resources=Resources(workers=1))
    (result,) = context.map_partitions(modules_there, ["tasks.packed", "pandas"], _partitions(tmp_path / "in", [["a"]]))
    assert result.stats == {"there": ["tasks.packed"]}
    assert local._pools == {1: pool}
    pool.stop()
    pool.join()
