"""What is committed is whole, found again by its key, shared by content, and never handed out changed."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from storage import filecache
from storage.artifact import include
from storage.corpus import DOCUMENTS_SCHEMA, Documents, table_of, write_table
from storage.errors import NotFound, StoreCorrupted, StoreUnavailable, UserError
from storage.identity import digest_of_file
from storage.maintenance import collect_garbage, destroy, problems
from storage.memory import PartitionRecord, StepMemory
from storage.store import Store
from tests.storage.builds import build, identity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), tmp_path / "home")


def test_a_build_is_found_by_its_key_with_the_bytes_that_were_written(store: Store) -> None:
    made = build(store, {"00000.parquet": b"one", "sub/b": b"two"})
    found = store.find(made.key)
    assert found == made
    artifact = store.open(found.artifact)
    assert isinstance(artifact, Documents)
    assert artifact.path("sub/b").read_bytes() == b"two"
    assert store.find(identity(settings={"similarity": 0.7}).key) is None


def test_a_record_with_a_figure_that_is_not_finite_can_be_read_again(store: Store) -> None:
    made = build(store, {"00000.parquet": b"one"})
    store.record(made.model_copy(update={"metrics": {"loss": math.nan, "perplexity": math.inf, "tokens": 3.0}}))
    found = store.find(made.key)
    assert found is not None
    assert math.isnan(found.metrics["loss"])
    assert (found.metrics["perplexity"], found.metrics["tokens"]) == (math.inf, 3.0)


def test_equal_bytes_are_one_artifact_and_one_object_but_two_builds(store: Store) -> None:
    first = build(store, {"a": b"same"})
    second = build(store, {"a": b"same"}, settings={"similarity": 0.7})
    assert first.artifact == second.artifact
    assert first.key != second.key
    assert len(store.place.names("objects")) == 1
    assert {b.key for b in store.builds_of(first.artifact)} == {first.key, second.key}


def test_objects_are_read_only_and_scratch_is_gone_after_the_commit(store: Store) -> None:
    made = build(store, {"a": b"x"})
    target = store.open(made.artifact).path("a").resolve()
    assert target.stat().st_mode & 0o222 == 0
    assert target.stat().st_nlink == 1
    assert not (store.home / "work" / made.key).exists()


def test_the_latest_of_a_history_are_read_without_the_others(store: Store) -> None:
    made = [build(store, {"a": str(number).encode()}, settings={"similarity": number / 10}) for number in range(1, 5)]
    for one in made:
        store.append_history("toy", "unique", one.key, one.artifact)
    store.place.write("refs/steps/toy/unique/000001.json", b"not read")
    assert [entry.number for entry in store.history("toy", "unique", last=2)] == [3, 4]
    assert store.append_history("toy", "unique", made[0].key, made[0].artifact) == 5
    assert [entry.artifact for entry in store.history("toy", "unique", last=1)] == [made[0].artifact]


def test_an_artifact_of_artifacts_stores_nothing_twice(store: Store, tmp_path: Path) -> None:
    base = store.open(build(store, {"model.safetensors": b"weights"}).artifact)
    other = identity(task="finetune")
    with store.building(other.key) as work:
        include(work.output, "base", base)
        manifest = store.commit(work, "adapter", {})
    assert manifest.files["base/model.safetensors"] == base.manifest.files["model.safetensors"]
    assert len(store.place.names("objects")) == 1


def test_a_tampered_object_is_refused_reported_and_mended_by_building_again(store: Store, tmp_path: Path) -> None:
    made = build(store, {"a": b"right"})
    target = store.open(made.artifact).path("a").resolve()
    target.chmod(0o644)
    target.write_bytes(b"wrong")
    fresh = Store(str(tmp_path / "store"), tmp_path / "home")
    with pytest.raises(StoreCorrupted, match="differs from its digest"):
        fresh.open(made.artifact)
    assert any("differs" in problem for problem in problems(fresh))
    build(fresh, {"a": b"right"})
    assert list(problems(Store(str(tmp_path / "store"), tmp_path / "home"))) == []


def test_a_tampered_or_missing_part_makes_the_key_unknown(store: Store) -> None:
    made = build(store, {"a": b"x", "b": b"y"})
    (store.open(made.artifact).path("a").resolve()).unlink()
    assert store.find(made.key) is None
    assert store.record_of(made.key) == made


def test_a_changed_manifest_is_refused(store: Store) -> None:
    made = build(store, {"a": b"x"})
    path = Path(store.place.full(f"artifacts/{made.artifact}.json"))
    path.write_text(path.read_text().replace('"a"', '"../../escape"'))
    with pytest.raises(StoreCorrupted, match="was changed"):
        store.manifest(made.artifact)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match=r"disk is full.*athanor gc"):
        build(store, {"a": b"x"})
    monkeypatch.undo()
    assert store.find(identity().key) is None
    assert store.place.names("artifacts") == []
    assert list(problems(store)) == []
    assert store.find(build(store, {"a": b"x"}).key) is not None


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs root to mount a small disk")
def test_a_really_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = Store(str(small / "store"), tmp_path / "home")
        with pytest.raises(StoreUnavailable, match="disk is full"):
            build(store, {"a": os.urandom(1_000_000)})
        assert store.place.names("objects") == []
        assert store.find(build(store, {"a": b"x"}).key) is not None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_history_aliases_and_names(store: Store) -> None:
    first = build(store, {"a": b"1"})
    second = build(store, {"a": b"2"}, settings={"similarity": 0.7})
    assert [entry.number for entry in store.history("r", "unique")] == [1, 2]
    assert store.append_history("r", "unique", second.key, second.artifact) == 2
    assert store.resolve("r/unique") == second.artifact
    assert store.resolve("r/unique@1") == first.artifact
    assert store.resolve(first.artifact[:8]) == first.artifact
    store.set_alias("champion", first.artifact)
    assert store.resolve("champion") == first.artifact
    for unknown in ("nobody", "r/nothing", "r/unique@9", "../etc", "abcdef123"):
        with pytest.raises(NotFound):
            store.resolve(unknown)


def test_export_copies_writable_files_and_never_overwrites(store: Store, tmp_path: Path) -> None:
    made = build(store, {"a": b"x", "sub/b": b"y"})
    store.export(made.artifact, tmp_path / "out")
    copy = tmp_path / "out" / "sub" / "b"
    assert copy.read_bytes() == b"y"
    copy.write_bytes(b"mine")
    assert list(problems(store)) == []
    with pytest.raises(UserError, match="not an empty folder"):
        store.export(made.artifact, tmp_path / "out")


def test_one_builder_per_key_the_second_waits(store: Store) -> None:
    order: list[str] = []

    def second() -> None:
        with store.building("k", on_wait=lambda: order.append("waits")):
            order.append("second")

    with store.building("k"):
        other = threading.Thread(target=second)
        other.start()
        while "waits" not in order:
            time.sleep(0.01)
        order.append("first done")
    other.join()
    assert order == ["waits", "first done", "second"]


def test_a_lock_dies_with_its_process_and_scratch_survives(store: Store, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from storage.store import Store
        with Store(sys.argv[1], Path(sys.argv[2])).building("k") as work:
            (work.scratch / "checkpoint").write_text("half way")
            print("inside", flush=True)
            time.sleep(60)
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "store"), str(tmp_path / "home")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "inside\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with store.building("k") as work:
        assert (work.scratch / "checkpoint").read_text() == "half way"


def test_objects_that_a_build_shares_are_in_its_artifact_without_a_file_of_its_own(store: Store) -> None:
    old = store.open(build(store, {"a": b"old", "b": b"other"}).artifact)
    with store.building("k") as work:
        (work.output / "c").write_bytes(b"new")
        (work.output / "b").write_bytes(b"left by a build that was killed")
        manifest = store.commit(work, "documents", {}, {name: old.path(name) for name in ("a", "b")})
        assert sorted(path.name for path in work.output.iterdir()) == ["b", "c"]
    made = store.open(manifest.digest)
    assert {name: made.path(name).read_bytes() for name in made.names()} == {"a": b"old", "b": b"other", "c": b"new"}
    assert made.manifest.files["a"] == old.manifest.files["a"]
    assert list(problems(store)) == []


def test_a_shared_object_that_a_collector_frees_meanwhile_fails_the_commit(store: Store) -> None:
    for number in range(3):
        build(store, {"a": f"{number}".encode()}, settings={"similarity": number})
    first, *_, last = store.history("r", "unique")
    with store.building("k") as work:
        shared = {"first": store.open(first.artifact).path("a"), "last": store.open(last.artifact).path("a")}
        collect_garbage(store, keep=1)
        store.commit(work, "documents", {}, {"last": shared["last"]})
        before = store.place.names("artifacts")
        with pytest.raises(StoreUnavailable, match="run again"):
            store.commit(work, "documents", {}, shared)
    assert store.place.names("artifacts") == before
    assert list(problems(store)) == []


def test_a_corpus_becomes_a_folder_only_when_somebody_asks_for_it(store: Store) -> None:
    opened = store.open(build(store, {"00000.parquet": b"one", "00001.parquet": b"two"}).artifact)
    view = store.home / "views" / opened.digest
    assert isinstance(opened, Documents)
    assert [partition.path.read_bytes() for partition in opened.partitions] == [b"one", b"two"]
    assert not view.exists()
    assert opened.folder == view
    assert {path.name: path.read_bytes() for path in view.iterdir()} == {
        "00000.parquet": b"one",
        "00001.parquet": b"two",
    }


def test_a_commit_that_was_killed_cannot_be_written_through(store: Store) -> None:
    with store.building("k") as work:
        (work.output / "a").write_bytes(b"committed")
        store.commit(work, "documents", {})
    with store.building("k") as work:
        (work.output / "a").write_bytes(b"written again")
    assert list(problems(store)) == []


def _remembered(store: Store, tmp_path: Path) -> PartitionRecord:
    """A partition's result under the key ``k``, of a build that noted its results as ``first``."""
    made = tmp_path / "made"
    made.write_bytes(b"result")
    record = PartitionRecord({"rows": 3, "samples": ["a long text"]}, {"{stem}.parquet": made}, "of rows")
    memory = StepMemory(store)
    memory.remember("k", record, {"rows": 3})
    memory.used("k", "place")
    assert memory.write("first") == "first"
    return record


def test_partition_results_are_recalled_by_key(store: Store, tmp_path: Path) -> None:
    record = _remembered(store, tmp_path)
    memory = StepMemory(store, ["first"])
    recalled, whole = memory.recall("k"), memory.whole("k")
    assert recalled is not None
    assert whole is not None
    assert (recalled.stats, recalled.rows) == ({"rows": 3}, "")
    assert (whole.stats, whole.rows) == (record.stats, record.rows)
    assert recalled.files == whole.files
    assert recalled.files["{stem}.parquet"].read_bytes() == b"result"
    assert memory.before("place") == whole
    assert memory.before("elsewhere") is None
    afresh = StepMemory(store, ["first"], enabled=False)
    assert (afresh.recall("k"), afresh.whole("k"), afresh.before("place")) == (None, None, None)
    assert (memory.recall("unknown"), memory.whole("unknown")) == (None, None)
    # Of a build that did not get so far as to note its results, all is found by its key alone.
    assert (StepMemory(store).recall("k"), StepMemory(store).whole("k")) == (None, whole)


def test_results_are_handed_on_from_build_to_build(store: Store, tmp_path: Path) -> None:
    _remembered(store, tmp_path)
    second = StepMemory(store, ["first"])
    second.used("k", "place")
    second.write("second")
    # A build that was killed had made it: what it is, is read again.
    third = StepMemory(store)
    third.used("k", "place")
    third.used("lost", "other place")
    third.write("third")
    assert StepMemory(store).write("none") == ""
    for name in ("second", "third"):
        memory = StepMemory(store, ["gone", name])
        assert memory.recall("k") == StepMemory(store, ["first"]).recall("k")
        assert (memory.before("place"), memory.before("other place")) == (memory.whole("k"), None)


@pytest.mark.parametrize("garbled", ["results/first.json", "partitions/k.json"])
def test_what_was_remembered_and_is_garbled_is_forgotten(store: Store, tmp_path: Path, garbled: str) -> None:
    _remembered(store, tmp_path)
    store.place.write(garbled, b"\0\0\0")
    memory = StepMemory(store, ["first"])
    assert (memory.recall("k") is None) == garbled.startswith("results")
    assert (memory.whole("k") is None) == garbled.startswith("partitions")
    assert memory.before("place") is None
    destroy(store, [], ["nowhere"], 1)
    assert list(problems(store)) == []


def test_results_go_with_the_last_build_that_needs_them(store: Store, tmp_path: Path) -> None:
    builds = [build(store, {"a": f"{n}".encode()}, settings={"similarity": n}) for n in range(2)]
    _remembered(store, tmp_path)
    store.record(builds[0].model_copy(update={"results": "first"}))
    for name in ("partitions/k.json", "results/first.json", *(f"objects/{o}" for o in store.place.stats("objects"))):
        os.utime(Path(store.place.root) / name, (1, 1))
    assert collect_garbage(store, keep=2).files == []
    assert StepMemory(store, ["first"]).before("place") is not None
    assert {"partitions/k.json", "results/first.json"} < set(collect_garbage(store, keep=1).files)
    assert StepMemory(store, ["first"]).recall("k") is None
    assert StepMemory(store).whole("k") is None


def test_what_is_remembered_of_destroyed_objects_is_destroyed(store: Store, tmp_path: Path) -> None:
    memory, objects = StepMemory(store), {}
    for key in ("by-object", "by-sample", "stays"):
        made = tmp_path / key
        made.write_text(key)
        sample = [0, "dropped: length", "a text", None, f"https://a.org/{key}", "dropped", "after"]
        short = {"samples": [[0, "dropped: length", f"https://a.org/{key}"]]}
        files = memory.remember(key, PartitionRecord({"samples": [sample]}, {"f": made}), short)
        assert (files["f"].read_text(), made.exists()) == (key, False)
        objects[key] = store.objects.entry_of_file(files["f"])
        memory.used(key, f"place of {key}")
    memory.write("first")
    gone = objects["by-object"]
    assert gone is not None
    destroy(store, [gone], ["https://a.org/by-sample"], 1)
    assert store.place.names("partitions") == ["stays.json"]
    left = (store.place.read("results/first.json") or b"").decode()
    assert "by-object" not in left
    assert "by-sample" not in left
    assert StepMemory(store, ["first"]).recall("stays") is not None


def test_garbage_is_what_no_kept_build_alias_or_running_build_needs(store: Store, tmp_path: Path) -> None:
    builds = [build(store, {"a": f"{n}".encode()}, settings={"similarity": n}) for n in range(5)]
    store.set_alias("champion", builds[0].artifact)
    said = collect_garbage(store, keep=2, dry_run=True)
    assert said.artifacts == 2
    assert all(store.find(b.key) for b in builds)
    freed = collect_garbage(store, keep=2)
    assert freed.files == said.files
    assert freed.bytes == 2
    assert [store.find(b.key) is not None for b in builds] == [True, False, False, True, True]
    assert list(problems(store)) == []
    with store.building("running") as work:
        (work.output / "b").write_bytes(b"being built")
        store.commit(work, "documents", {})
        assert collect_garbage(store, keep=2).files == []
        assert work.scratch.exists()


def test_an_object_is_read_once_for_every_state_of_its_file_but_verified_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(store, {"a": b"first"})
    (entry,) = store.manifest(made.artifact).files.values()
    path = store.objects.address(entry)
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    read: list[Path] = []
    monkeypatch.setattr(filecache, "digest_of_file", lambda path: read.append(path) or digest_of_file(path))
    for _ in range(2):  # as two processes
        again = Store(str(store.place.root), store.home)
        assert again.open(made.artifact).path("a").read_bytes() == b"first"
    assert read == [path]
    path.chmod(0o600)
    path.write_bytes(b"other")
    os.utime(path, (hour_ago, hour_ago))
    with pytest.raises(StoreCorrupted):
        Store(str(store.place.root), store.home).open(made.artifact)
    # Bits that a disk loses change nothing that the file system knows.
    monkeypatch.setattr(filecache, "digest_of_file", lambda path: entry.object)
    assert "content differs from its digest" in next(problems(Store(str(store.place.root), store.home)))


def test_a_record_kept_for_its_age_keeps_its_artifact(store: Store) -> None:
    old, _, _ = [build(store, {"a": f"{n}".encode()}, settings={"similarity": n}) for n in range(3)]
    hour_ago = time.time() - 3600
    for name in (f"artifacts/{old.artifact}.json", *(f"objects/{o}" for o in store.place.stats("objects"))):
        os.utime(Path(store.place.root) / name, (hour_ago, hour_ago))
    with store.building("running"):
        record = Path(store.place.root) / f"builds/{old.key}.json"
        later = time.time() + 60
        os.utime(record, (later, later))
        collect_garbage(store, keep=1)
    assert store.find(old.key) == old
    assert list(problems(store)) == []


def test_a_store_at_another_address_works_alike(tmp_path: Path) -> None:
    store = Store("memory://athanor-test", tmp_path / "home")
    made = build(store, {"a": b"x", "sub/b": b"y"})
    assert store.find(made.key) == made
    assert store.open(made.artifact).path("sub/b").read_bytes() == b"y"
    assert store.resolve("r/unique@1") == made.artifact
    assert list(problems(store)) == []


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    row = {"id": "1", "text": "水 water", "url": "u", "source": "s", "first_seen": 1}
    for name in ("a", "b"):
        write_table(table_of([row], DOCUMENTS_SCHEMA), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
