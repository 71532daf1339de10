"""Several hosts: what is refused before anything starts, and two real ones that are cut off, killed and continued."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from model.launching import host, launch
from model.launching.hosts import Hosts, read_hostfile
from model.launching.interface import interface_towards
from model.launching.pulse import Pulse
from model.request import Request, Run
from storage.errors import UserError
from storage.identity import digest_of_file
from storage.shards import Shards
from tests.model.networks import TwoHosts, two_hosts, why_not
from tests.model.training import ROOT, kill_all, made_shards, request, until
from tests.model.trouble import PATIENCE, Gates

SILENCE = 8.0
"""Seconds: longer than a loaded machine keeps a thread waiting."""
MOST = 10 * SILENCE
"""Seconds within which a run has stopped that lost a host: no speed, but far less than collectives wait."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"launcher": "join", "count": 2, "address": "a"}, "launcher join needs folder"),
        ({"launcher": "hostfile"}, "launcher hostfile needs hostfile"),
        ({"launcher": "slurm", "count": 2}, "count is for launcher join"),
        ({"launcher": "mpi"}, "'join', 'hostfile', 'slurm' or 'ray'"),
    ],
)
def test_hosts_that_cannot_be_used_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Hosts.model_validate(given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a slots=2\nb\n", "hosts.txt:2: 'b' is not of the form"),
        ("a slots=2\n# none\n\na slots=1\n", "hosts.txt:4: host a is there twice"),
        ("a slots=two\nb slots=1\n", "hosts.txt:1"),
        ("a slots=8\n", "1 hosts: leave resources.hosts out"),
    ],
)
def test_a_hostfile_is_refused_by_its_line(tmp_path: Path, text: str, said: str) -> None:
    place = tmp_path / "hosts.txt"
    place.write_text(text)
    with pytest.raises(UserError, match=said):
        read_hostfile(place)


def test_a_hostfile_shares_the_processes_out(tmp_path: Path) -> None:
    place = tmp_path / "hosts.txt"
    place.write_text("one slots=3  # the first\ntwo slots=1\n")
    hosts = Hosts(launcher="hostfile", hostfile=place, port=4000)
    run = Run(processes=4, hosts=hosts, scratch=tmp_path, metrics_file=tmp_path, output=tmp_path)
    assert host.shares(run) == [3, 1]
    command = " ".join(host.torchrun(tmp_path / "request.json", run, 1))
    assert "--nnodes 2 --nproc-per-node 1 --rdzv-backend static --rdzv-endpoint one:4000 --node-rank 1" in command
    with pytest.raises(UserError, match="has 4 slots, and resources have processes 6"):
        host.shares(run.model_copy(update={"processes": 6}))


def test_slurm_needs_an_allocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NNODES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    described = request(tmp_path, made_shards(tmp_path / "data", 3), run={"hosts": {"launcher": "slurm"}})
    with pytest.raises(UserError, match="inside sbatch or salloc"):
        launch.train(described, quiet)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for an interface's address")
def test_the_interface_that_leads_to_a_host_is_found() -> None:
    assert interface_towards("127.0.0.1") == "lo"


def test_a_host_that_falls_silent_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True)
    values = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "LOCAL_RANK": "0"}
    for name, value in {**values, "GROUP_WORLD_SIZE": "3", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for other in (1, 2):
        store.set(f"pulse/{other}/name", f"node{other}")
        store.add(f"pulse/{other}", 1)
    told: list[str] = []
    hosts = Hosts(launcher="slurm", silence_seconds=3, join_seconds=60)
    end = time.monotonic() + PATIENCE
    with Pulse(hosts, told.append):
        while not told and time.monotonic() < end:
            store.add("pulse/1", 1)
            time.sleep(0.1)
    assert told == ["host 2 (node2) was not heard from for 3 s"]


def quiet(done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None:
    """A progress that nobody watches."""


# ---- two hosts ----


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with two_hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


def drive(described: Request, folder: Path, hosts: TwoHosts, **variables: str) -> subprocess.Popen[str]:
    """A process on the first host that trains, and prints how it failed."""
    place = folder / "driven.json"
    place.write_text(described.model_dump_json())
    command = hosts.inside(hosts.first, sys.executable, "-m", "tests.model.training", str(place), str(folder / "lock"))
    values = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(command, cwd=ROOT, env=values, stderr=subprocess.PIPE, text=True, start_new_session=True)


def failed(driver: subprocess.Popen[str], seconds: float = PATIENCE) -> str:
    """The last line of what the driver said; it must end within so many seconds."""
    _, said = driver.communicate(timeout=seconds)
    assert driver.returncode == 1, said
    return said.splitlines()[-1]


def on_second_host(hosts: TwoHosts) -> list[int]:
    """Its training processes, torchrun included."""
    inside = subprocess.run(["ip", "netns", "pids", hosts.second], capture_output=True, text=True, check=True)
    return [int(pid) for pid in inside.stdout.split()]


@pytest.mark.slow
def test_two_hosts_end_with_the_weights_of_one_though_cut_off_and_killed(tmp_path: Path, hosts: TwoHosts) -> None:
    """Started by each launcher in turn, on the same run: hostfile (cut off), Slurm (killed), join (to its end)."""
    shards = made_shards(tmp_path / "data")
    alone = request(tmp_path / "alone", shards)
    launch.train(alone, quiet)
    common = {"silence_seconds": SILENCE, "join_seconds": 300, "address": hosts.addresses[0]}
    gates = Gates(tmp_path / "gates", 6, 16)

    described = _with_hostfile(tmp_path, shards, hosts, common)
    driver = drive(described, tmp_path, hosts, **gates.environment())
    gates.reached(described, 6)
    hosts.cut()
    gates.open(6)
    said = failed(driver, MOST)
    assert f"host 1 ({os.uname().nodename}) was not heard from for {SILENCE:g} s" in said
    assert said.endswith("continues from its last checkpoint")
    until(lambda: not on_second_host(hosts), MOST, "the end of the processes that were cut off")
    hosts.mend()

    slurm = request(tmp_path, shards, run={"hosts": {"launcher": "slurm", **common}})
    driver = drive(slurm, tmp_path, hosts, **_slurm(tmp_path, hosts), **gates.environment())
    gates.reached(slurm, 16)
    kill_all(on_second_host(hosts))
    gates.open(16)
    said = failed(driver, MOST)
    assert "lost the connection to a training process" in said or "host 1" in said

    folder = tmp_path / "announced"
    joined = request(
        tmp_path, shards, run={"hosts": {"launcher": "join", "count": 2, "folder": folder, "port": 29_511, **common}}
    )
    command = [sys.executable, "-m", "model.launching.join", str(folder), "--number", "1", "--runs", "1"]
    other = subprocess.Popen(hosts.inside(hosts.second, *command), cwd=ROOT)
    driver = drive(joined, tmp_path, hosts)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said
    assert other.wait(PATIENCE) == 0
    assert not on_second_host(hosts)
    weights = "output/model.safetensors"
    assert digest_of_file(tmp_path / weights) == digest_of_file(tmp_path / "alone" / weights)


def _with_hostfile(folder: Path, shards: Shards, hosts: TwoHosts, common: dict[str, object]) -> Request:
    place = folder / "hosts.txt"
    place.write_text("".join(f"{address} slots=1\n" for address in hosts.addresses))
    given = {"launcher": "hostfile", "hostfile": place, "remote_shell": str(hosts.shell), **common}
    return request(folder, shards, run={"hosts": given})


def _slurm(folder: Path, hosts: TwoHosts) -> dict[str, str]:
    """Environment of an allocation of two nodes; its ``srun`` starts the command on both, as Slurm's does."""
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(
        "#!/bin/sh\n"
        "while case $1 in --*) true ;; *) false ;; esac; do shift; done\n"
        f'SLURM_NODEID=1 ip netns exec {hosts.second} "$@" &\n'
        "other=$!\n"
        f'SLURM_NODEID=0 ip netns exec {hosts.first} "$@"\n'
        "status=$?\n"
        "wait $other\n"
        "exit $status\n"
    )
    srun.chmod(0o755)
    path = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SLURM_JOB_ID": "1", "SLURM_NNODES": "2", "SLURMD_NODENAME": "first"}


@pytest.mark.slow
def test_hosts_that_do_not_come_are_counted(tmp_path: Path, hosts: TwoHosts) -> None:
    shards = made_shards(tmp_path / "data", 3)
    given = {"launcher": "join", "count": 2, "folder": tmp_path / "announced", "address": "127.0.0.1"}
    described = request(tmp_path, shards, run={"hosts": {**given, "join_seconds": 2}})
    said = failed(drive(described, tmp_path, hosts))  # in a namespace, whose ports nobody else has
    assert "1 of 2 hosts were there after 2 s (hosts.join_seconds)" in said


@pytest.mark.slow
def test_ray_train_gives_the_weights_of_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of its own, though another seems to run on this machine."""
    pytest.importorskip("ray.train.torch")
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # sockets lie there, whose paths must be short
        others = Path(short) / "ray" / "ray_current_cluster"
        others.parent.mkdir()
        others.write_text("127.0.0.1:1")
        monkeypatch.setenv("RAY_TMPDIR", short)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        _compare_with_torchrun(tmp_path)


def _compare_with_torchrun(tmp_path: Path) -> None:
    shards = made_shards(tmp_path / "data", 12)
    weights = []
    for name, given in (("torchrun", {}), ("ray", {"hosts": {"launcher": "ray"}})):
        described = request(tmp_path / name, shards, tokens=80 * 5, run=given)
        launch.train(described, quiet)
        weights.append(digest_of_file(described.run.output / "model.safetensors"))
    assert weights[0] == weights[1]
