"""What went in is what was kept and what was dropped, whatever the graph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.page.amounts import amounts_of, beginnings, largest

COUNTS = st.dictionaries(st.sampled_from(["short", "gopher.length", "c4.curly", "timeout"]), st.integers(0, 10**9))


@given(COUNTS, st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_kept_and_dropped_make_what_went_in(dropped: dict[str, int], kept: int, lost: int, added: int) -> None:
    came_in = kept + sum(dropped.values()) + lost
    metrics = {"documents_in": float(came_in), "documents_out": float(kept + added), "bytes_in": 7.0}
    metrics |= {f"dropped.{reason}": float(n) for reason, n in dropped.items()}
    amount = amounts_of(metrics)
    assert amount is not None
    assert amount.kept + sum(amount.dropped.values()) + amount.unexplained == amount.documents_in == came_in
    assert amount.kept + amount.added == amount.documents_out == kept + added
    assert amount.dropped == {reason: n for reason, n in dropped.items() if n}
    assert list(amount.dropped.values()) == sorted(amount.dropped.values(), reverse=True)
    assert min(amount.unexplained, amount.added) == 0
    assert (amount.bytes_in, amount.bytes_out) == (7, None)


def test_a_step_that_only_makes_pages_took_what_it_made() -> None:
    amount = amounts_of({"pages": 90, "dropped.twice": 10, "bytes_out": 1000})
    assert amount is not None
    assert (amount.documents_in, amount.documents_out, amount.unexplained) == (100, 90, 0)
    assert amounts_of({"loss": 3.1}) is None


def test_documents_at_the_start_are_those_of_all_sources_above_each_counted_once() -> None:
    needs: dict[str, list[str]] = {
        "web": [], "books": [], "clean": ["web"], "good": ["clean"], "bad": ["clean"],
        "both": ["good", "bad", "books"], "tokenizer": ["both"], "shards": ["both", "tokenizer"],
    }  # fmt: skip
    made = {"web": 100, "books": 10, "clean": 90, "good": 50, "bad": 40, "both": 80, "shards": 80}
    amounts = {name: amount for name, n in made.items() if (amount := amounts_of({"documents_out": n})) is not None}
    found = beginnings(needs, amounts)
    assert found == {"web": 100, "books": 10, "clean": 100, "good": 100, "bad": 100, "both": 110, "shards": 110}


@given(COUNTS, st.integers(1, 6))
def test_what_is_put_together_still_adds_up(parts: dict[str, int], most: int) -> None:
    shown = largest(parts, most, "{} other reasons")
    assert len(shown) <= most
    assert sum(n for _, n in shown) == sum(parts.values())
    if len(parts) > most:
        assert shown[-1][0] == f"{len(parts) - most + 1} other reasons"


@pytest.mark.parametrize(("dropped", "out"), [(20, 5), (0, 12)])
def test_figures_that_do_not_add_up_are_no_negative_numbers(dropped: int, out: int) -> None:
    amount = amounts_of({"documents_in": 10, "documents_out": out, "dropped.odd": dropped})
    assert amount is not None
    assert min(amount.kept, amount.unexplained, amount.added) >= 0
