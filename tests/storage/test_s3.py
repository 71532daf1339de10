"""A store on S3 keeps what a store on a disk keeps, whatever the network and other hosts do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from storage import faults, filesystems
from storage.errors import StoreCorrupted, StoreUnavailable, UserError
from storage.maintenance import collect_garbage, problems
from storage.memory import PartitionRecord, StepMemory
from storage.objects import remote
from storage.place import Place
from storage.store import Store
from tests.s3 import S3, Answer, Request
from tests.storage.builds import build, commit, identity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ATHANOR_LEASE_SECONDS", "8")
    monkeypatch.setattr(faults, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setitem(filesystems._S3_CLIENT, "retries", {"mode": "standard", "max_attempts": 1})
    return Store(f"{s3.url}/corpora", tmp_path / "home")


@pytest.fixture
def other(s3: S3, tmp_path: Path) -> Store:
    """The same store, as another host sees it."""
    return Store(f"{s3.url}/corpora", tmp_path / "other-home")


def _is_object(request: Request) -> bool:
    return "/objects/" in request.path


def test_what_one_host_builds_another_finds_opens_and_names(store: Store, other: Store) -> None:
    made = build(store, {"00000.parquet": b"one", "sub/b": b"two"})
    assert other.find(made.key) == made
    artifact = other.open(made.artifact)
    assert artifact.path("sub/b").read_bytes() == b"two"
    assert artifact.path("sub/b").resolve().stat().st_mode & 0o222 == 0
    assert other.resolve("r/unique@1") == made.artifact
    assert other.steps() == [("r", "unique")]
    assert [b.key for b in other.builds()] == [made.key]
    assert list(problems(other)) == []
    assert list(store.place.names("leases")) != []


def test_equal_bytes_are_put_once_and_what_was_made_here_is_not_fetched(store: Store, s3: S3) -> None:
    build(store, {"a": b"same"})
    build(store, {"a": b"same"}, settings={"similarity": 0.7})
    made = build(store, {"a": b"same", "b": b"new"}, settings={"similarity": 0.6})
    puts = [r for r in s3.requests if r.method == "PUT" and _is_object(r)]
    assert len(puts) == 2
    assert all(r.conditional for r in puts)
    store.open(made.artifact)
    assert [r for r in s3.requests if r.method == "GET" and _is_object(r)] == []


def test_history_is_written_by_conditional_puts_so_no_entry_is_lost(store: Store, other: Store) -> None:
    def append(of: Store, letter: str) -> None:
        for n in range(5):
            of.append_history("r", "s", f"{letter}{n}", "artifact")

    threads = [threading.Thread(target=append, args=args) for args in ((store, "a"), (other, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = store.history("r", "s")
    assert [entry.number for entry in entries] == list(range(1, 11))
    assert {entry.key for entry in entries} == {f"{letter}{n}" for letter in "ab" for n in range(5)}


def test_throttling_timeouts_and_lost_answers_are_waited_out(store: Store, other: Store, s3: S3) -> None:
    lost = Answer("500 Internal Server Error", "InternalError", after_doing_it=True)
    s3.fail(3, lambda r: r.method == "PUT" and _is_object(r))
    made = build(store, {"a": b"throttled"})
    s3.fail(2, lambda r: r.method == "PUT" and "refs/" in r.path, lost)
    assert store.append_history("r", "unique", "k2", made.artifact) == 2
    assert [entry.key for entry in store.history("r", "unique")] == [made.key, "k2"]
    s3.fail(4, lambda r: r.method == "GET", Answer("503 Service Unavailable", "ServiceUnavailable"))
    assert other.open(made.artifact).path("a").read_bytes() == b"throttled"


def test_answers_that_outlast_the_timeout_are_asked_for_again(
    s3: S3, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(filesystems._S3_CLIENT, "read_timeout", 0.5)
    hasty = Store(store.place.url, store.home)
    # Who waits for it is refused, and asks no more.
    silent = Answer("403 Forbidden", "AccessDenied", after_doing_it=True, seconds=3)
    s3.fail(2, lambda r: r.method == "PUT" and _is_object(r), silent)
    made = build(hasty, {"a": b"late"})
    assert sum(r.method == "PUT" and _is_object(r) for r in s3.requests) >= 3
    assert other.open(made.artifact).path("a").read_bytes() == b"late"
    third = Store(store.place.url, store.home.parent / "third-home")
    s3.requests.clear()
    s3.fail(2, lambda r: r.method == "GET" and _is_object(r), silent)
    assert third.open(made.artifact).path("a").read_bytes() == b"late"
    assert sum(r.method == "GET" and _is_object(r) for r in s3.requests) >= 3
    assert list(problems(other)) == []


@pytest.mark.parametrize("megabytes", [1, 12])
def test_an_upload_that_is_cut_off_is_begun_again(
    store: Store, other: Store, s3: S3, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    """In one put, and in one of three parts."""
    monkeypatch.setattr(filesystems, "PART_BYTES", 5 * 2**20)  # S3 takes no smaller ones
    content = bytes(range(256)) * (megabytes * 2**20 // 256)
    cut_off: list[Request] = []

    def hang_up(request: Request) -> Answer | None:
        part = "partNumber=2" in request.query if megabytes > 5 else True
        if request.method == "PUT" and _is_object(request) and part and len(cut_off) < 2:
            cut_off.append(request)
            return Answer(hangs_up_after=300_000)
        return None

    s3.fault = hang_up
    made = build(store, {"a": content})
    assert len(cut_off) == 2
    assert other.open(made.artifact).path("a").read_bytes() == content
    assert list(problems(other)) == []


def test_a_store_that_stays_out_of_reach_is_one_line(store: Store, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PATIENCE_SECONDS", 0.3)
    s3.fail(1000, lambda r: r.method == "PUT")
    with pytest.raises(StoreUnavailable, match=r"cannot write .* for \d+ s: .*what is finished is kept") as raised:
        build(store, {"a": b"x"})
    assert "something-secret" not in str(raised.value)
    s3.fault = None
    assert store.find(identity().key) is None
    assert store.find(build(store, {"a": b"x"}).key) is not None


def test_wrong_credentials_addresses_and_buckets_are_told_apart(s3: S3, tmp_path: Path) -> None:
    s3.fail(1000, lambda r: True, Answer("403 Forbidden", "AccessDenied"))
    with pytest.raises(StoreUnavailable, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Place(s3.url).write("a", b"")
    s3.fault = None
    with pytest.raises(StoreUnavailable, match="create the bucket"):
        Place("s3://no-such-bucket/x").write("a", b"")
    with pytest.raises(UserError, match="give a path, or a URL") as raised:
        Store("s4://someone:something-secret@bucket", tmp_path)
    assert "something-secret" not in str(raised.value)


@pytest.mark.slow
def test_an_upload_that_is_killed_leaves_nothing_visible_and_its_parts_are_freed(
    s3: S3, store: Store, tmp_path: Path
) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from storage import filesystems
        from storage.store import Store
        filesystems.PART_BYTES = 5 * 2**20  # S3 takes no smaller ones
        Store(sys.argv[1], Path(sys.argv[2])).take(Path(sys.argv[3]), keep=True)
    """)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(20_000_000)  # in four parts
    reached = threading.Event()

    def stall(request: Request) -> Answer | None:
        if "partNumber=3" in request.query:
            reached.set()
            return Answer(seconds=5)
        return None

    s3.fault = stall
    command = [sys.executable, "-c", script, store.place.url, str(tmp_path / "other-home"), str(large)]
    upload = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert reached.wait(300)
    upload.send_signal(signal.SIGKILL)
    upload.wait()
    s3.fault = None
    assert store.place.names("objects") == []
    assert collect_garbage(store, dry_run=True).uploads == 1
    assert collect_garbage(store).uploads == 1
    assert collect_garbage(store).uploads == 0


def test_a_download_cut_short_is_fetched_again_and_tampering_is_refused(
    store: Store, other: Store, s3: S3, tmp_path: Path
) -> None:
    made = build(store, {"a": b"right"})
    name = store.objects.name(store.manifest(made.artifact).files["a"].object)
    store.place.write(name, b"wrong")
    with pytest.raises(StoreCorrupted, match="differs from its digest"):
        other.open(made.artifact).path("a")
    assert any("differs" in problem for problem in problems(store)), "a copy of one's own must not be looked at"
    store.place.delete(name)
    assert Store(store.place.url, tmp_path / "third").find(made.key) is None
    with pytest.raises(StoreUnavailable, match="is gone"):
        other.open(made.artifact).path("a")


def test_thousands_of_objects_are_listed_not_asked_for(
    store: Store, other: Store, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_LIST_FROM", 10)
    made = build(store, {f"{n:05}.parquet": f"{n % 7}".encode() for n in range(40)})
    assert len(store.place.names("objects")) == 7
    s3.requests.clear()
    assert other.find(made.key) == made
    assert s3.count("HEAD") == 7
    many = build(store, {f"{n:05}.parquet": f"{n}".encode() for n in range(30)}, settings={"similarity": 0.7})
    s3.requests.clear()
    assert Store(store.place.url, other.home).find(many.key) == many
    assert s3.count("HEAD") == 0
    assert s3.count("GET") <= 2 + 30
    s3.requests.clear()
    assert store.is_whole(many.artifact), "what was just put is known to be there"
    assert len(s3.requests) == 1


def test_a_listing_goes_on_behind_its_first_thousand(s3: S3) -> None:
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    for n in range(1_100):
        backend.put_object(s3.bucket, f"corpora/objects/{n % 16:02x}/{n:05}", b"x")
    place = Place(f"{s3.url}/corpora")
    assert len(place.names("objects")) == 1_100
    assert len(place.folders("objects")) == 16
    place.delete("objects/00/00000")
    assert len(place.names("objects")) == 1_099, "listings are not remembered"


def test_garbage_is_what_no_host_needs(store: Store, other: Store) -> None:
    builds = [build(store, {"a": f"{n}".encode()}, settings={"similarity": n}) for n in range(4)]
    store.set_alias("champion", builds[0].artifact)
    time.sleep(1.1)  # S3 tells times in whole seconds; what is as old as a running build is kept
    with other.building("running") as work:
        (work.output / "b").write_bytes(b"being built")
        manifest = other.commit(work, "documents", {})
        build(store, {"a": b"newer"}, settings={"similarity": 9})
        freed = collect_garbage(store, keep=2)
        assert freed.artifacts == 2
        assert other.is_whole(manifest.digest)
    assert [store.find(b.key) is not None for b in builds] == [True, False, False, True]
    assert list(problems(store)) == []
    assert other.find(builds[1].key) is None


def test_what_a_collector_frees_under_a_build_is_put_back(store: Store, other: Store) -> None:
    old = build(store, {"a": b"shared", "b": b"old"}, settings={"similarity": 0.1})
    build(store, {"a": b"x"}, settings={"similarity": 0.2})
    collecting = other.collecting()
    collecting.__enter__()
    done: list[str] = []

    def work() -> None:
        done.append(build(store, {"a": b"shared"}, settings={"similarity": 0.3}).artifact)

    builder = threading.Thread(target=work)
    builder.start()
    builder.join(0.5)
    assert done == [], "a build does not begin while a collector is at work that cannot know of it"
    collecting.__exit__(None, None, None)
    builder.join()
    with store.building("late") as running:
        (running.output / "a").write_bytes(b"shared")
        store.take(running.output / "a")
        with other.collecting():
            other.place.delete(store.objects.name(other.manifest(old.artifact).files["a"].object))
        manifest = store.commit(running, "documents", {})
    assert other.is_whole(manifest.digest)


def test_partition_results_are_recalled_on_another_host(store: Store, other: Store, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"result")
    memory = StepMemory(store)
    files = memory.remember("k", PartitionRecord({"rows": 3}, {"{stem}.parquet": made}))
    memory.used("k", "place")
    memory.write("first")
    assert files["{stem}.parquet"].read_bytes() == b"result"
    for recalled in (StepMemory(other).whole("k"), StepMemory(other, ["first"]).recall("k")):
        assert recalled is not None
        assert recalled.files["{stem}.parquet"].read_bytes() == b"result"


def test_secrets_stay_in_the_environment(store: Store, s3: S3) -> None:
    made = build(store, {"a": b"x"})
    everything = b"".join(
        store.place.read(f"{folder}/{name}") or b""
        for folder in ("builds", "artifacts", "leases")
        for name in store.place.names(folder)
    )
    assert made.key.encode() in everything
    assert b"something-secret" not in everything
    assert "something-secret" not in store.place.url


@pytest.mark.slow
def test_a_host_that_slept_through_its_lease_does_not_commit_over_its_successor(store: Store, tmp_path: Path) -> None:
    script = HOST.replace("time.sleep(0.2)", "print(flush=True); sys.stdin.readline()")
    command = [sys.executable, "-c", script, store.place.url, str(tmp_path / "sleeper"), str(tmp_path / "log")]
    sleeper = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert sleeper.stdout is not None
    sleeper.stdout.readline()
    sleeper.send_signal(signal.SIGSTOP)
    who = identity(settings={"n": 0})
    waits: list[bool] = []
    with store.building(who.key, on_wait=lambda: waits.append(True)) as work:
        made = commit(store, work, who, {"a": b"of the successor"})
    sleeper.send_signal(signal.SIGCONT)
    _, errors = sleeper.communicate(b"\n")
    assert waits == [True]
    assert b"LeaseLost" in errors
    assert b"another host took this over" in errors
    assert store.find(who.key) == made


HOST = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from storage.store import Store
    from tests.storage.builds import commit, identity
    url, home, log = sys.argv[1:]
    store = Store(url, Path(home))
    for n in range(3):
        who = identity(settings={"n": n})
        with store.building(who.key) as work:
            if store.find(who.key) is None:
                with open(log, "a") as file:
                    file.write(f"{n} ")
                time.sleep(0.2)
                commit(store, work, who, {"a": f"{n}".encode()})
""")


def test_two_hosts_build_each_key_once(store: Store, tmp_path: Path) -> None:
    hosts = []
    for name in ("one", "two"):
        command = [sys.executable, "-c", HOST, store.place.url, str(tmp_path / name), str(tmp_path / "log")]
        hosts.append(subprocess.Popen(command, cwd=ROOT))
    assert [host.wait(600) for host in hosts] == [0, 0]
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2"]
    assert len(store.place.names("builds")) == 3
    assert list(problems(store)) == []
