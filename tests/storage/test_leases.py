"""One holder at a time, among hosts that share only a store; a dead one is not waited for longer than its time."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from storage.errors import LeaseLost, UserError
from storage.leases import Watch, all_leases, held, is_forgotten, is_running, lease_seconds, leased, wait_until_free
from storage.place import Place


@pytest.fixture
def place() -> Place:
    return Place(f"memory://leases-{uuid.uuid4().hex}")


def test_holders_take_turns_and_the_next_one_comes_when_a_lease_is_given_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "silent", lambda *_: False)  # no lease runs out
    inside, most, order = 0, 0, []
    counting = threading.Lock()

    def host(name: str) -> None:
        nonlocal inside, most
        with leased(place, "key", home=name, seconds=6):
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            order.append(name)
            with counting:
                inside -= 1

    hosts = [threading.Thread(target=host, args=(f"{n}",)) for n in range(4)]
    with leased(place, "key", home="first", seconds=6):
        for thread in hosts:
            thread.start()
        time.sleep(0.2)
        assert order == []
    for thread in hosts:
        thread.join()
    assert (most, sorted(order)) == (1, ["0", "1", "2", "3"])
    assert held(place.stats("leases/key")).free


def test_a_lease_whose_holder_is_silent_is_taken_over_and_the_old_holder_is_told(place: Place) -> None:
    waits: list[bool] = []
    with leased(place, "key", home="one", seconds=1) as first:
        first.check()
        first._over.set()  # its host stops
        with leased(place, "key", home="two", seconds=1, on_wait=lambda: waits.append(True)) as second:
            second.check()
            assert second.number == 2
            with pytest.raises(LeaseLost, match="another host took this over"):
                first.check()
    assert waits == [True]


def test_a_living_holder_keeps_its_lease_beyond_its_time(place: Place) -> None:
    with leased(place, "key", home="one", seconds=6) as lease:
        other = threading.Thread(target=lambda: leased(place, "key", home="two", seconds=6).__enter__().give_back())
        other.start()
        time.sleep(7.5)
        assert other.is_alive()
        lease.check()
    other.join()


def test_a_holder_of_the_same_home_is_dead_and_not_waited_for(place: Place) -> None:
    dead = leased(place, "key", home="here", seconds=60)
    dead.__enter__()._over.set()
    with leased(place, "key", home="here", seconds=60) as lease:
        assert lease.number == 2


def test_waiting_for_a_dead_holder_ends_its_lease(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_LEASE_SECONDS", "1")
    leased(place, "collector", home="gone", seconds=1).__enter__()._over.set()
    wait_until_free(place, "collector")
    assert held(place.stats("leases/collector")).free


def test_what_runs_and_what_may_be_forgotten(place: Place) -> None:
    with leased(place, "running", home="one"):
        with leased(place, "done", home="one"):
            pass
        leases = all_leases(place)
        now = leases["running"].beat
        assert {name for name, state in leases.items() if is_running(state, now + 30)} == {"running"}
        assert not any(is_forgotten(state, now + 3600) for state in leases.values())
        assert all(is_forgotten(state, now + 100_000) for state in leases.values())


@pytest.mark.parametrize("value", ["soon", "0", "-3", "nan"])
def test_a_wrong_time_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHANOR_LEASE_SECONDS", value)
    with pytest.raises(UserError, match=f"ATHANOR_LEASE_SECONDS={value}"):
        lease_seconds()
