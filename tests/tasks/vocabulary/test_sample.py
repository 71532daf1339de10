"""Samples by source and by bytes do not depend on partitions, and keep the shares asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.corpus import DOCUMENTS_SCHEMA, Documents, document_id, table_of, write_table
from storage.errors import UserError
from tasks.vocabulary.sample import draw, shares_of

SIZES = {"docs": 3000, "code": 1000, "poems": 40}


def _corpus(folder: Path, per_partition: int, seed: int) -> Documents:
    """Documents of three sources in some order: of ``docs`` 3000, of ``code`` 1000, of ``poems`` 40."""
    rng = random.Random(7)
    rows = []
    for source, count in SIZES.items():
        for number in range(count):
            text = "字" * rng.randrange(1, 30) if source == "poems" else "a" * rng.randrange(1, 400)
            row = {"id": document_id(source, str(number)), "text": text, "url": str(number), "source": source}
            rows.append(row | {"first_seen": 1, "language": None if source == "code" else source[:2]})
    random.Random(seed).shuffle(rows)
    for number, start in enumerate(range(0, len(rows), per_partition)):
        table = table_of(rows[start : start + per_partition], DOCUMENTS_SCHEMA)
        write_table(table, folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Documents]:
    """The same documents, cut in two ways."""
    folder = tmp_path_factory.mktemp("corpora")
    return [_corpus(folder / str(size), size, size) for size in (97, 1500)]


def _bytes(corpus: Documents, seed: int, wanted: float, weights: dict[str, float]) -> dict[str, int]:
    """Bytes drawn by source, added up from the texts themselves."""
    drawn = draw([corpus], seed, wanted, weights)
    found = dict.fromkeys(SIZES, 0)
    for table in drawn.tables():
        for source, text in zip(table["source"].to_pylist(), table["text"].to_pylist(), strict=True):
            found[source] += len(text.encode())
    assert found == drawn.bytes_drawn | {source: 0 for source in found if source not in drawn.bytes_drawn}
    return found


def test_partitions_do_not_matter_and_the_seed_does(corpora: list[Documents]) -> None:
    drawn = [
        {
            (identity, text)
            for table in draw([corpus], seed, 100_000, {}).tables()
            for identity, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
        }
        for corpus in corpora
        for seed in (1, 2)
    ]
    assert drawn[0] == drawn[2]
    assert drawn[1] == drawn[3] != drawn[0]


def test_without_weights_every_source_gives_the_same_share(corpora: list[Documents]) -> None:
    whole = _bytes(corpora[0], 1, 1e12, {})
    part = _bytes(corpora[0], 1, sum(whole.values()) / 4, {})
    for source in ("docs", "code"):
        assert part[source] / whole[source] == pytest.approx(0.25, rel=0.05)
    assert sum(part.values()) == pytest.approx(sum(whole.values()) / 4, rel=0.03)


def test_weights_are_shares_of_the_bytes(corpora: list[Documents]) -> None:
    part = _bytes(corpora[0], 1, 60_000, {"docs": 1, "code": 2, "poems": 0})
    assert part["docs"] == pytest.approx(20_000, rel=0.05)
    assert part["code"] == pytest.approx(40_000, rel=0.05)
    assert part["poems"] == 0


def test_a_small_source_is_taken_whole_and_the_others_make_up_for_it(corpora: list[Documents]) -> None:
    whole = _bytes(corpora[0], 1, 1e12, {})
    part = _bytes(corpora[0], 1, 100_000, {"docs": 1, "code": 1, "poems": 1})
    assert part["poems"] == whole["poems"]
    assert part["docs"] == pytest.approx((100_000 - whole["poems"]) / 2, rel=0.05)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"docs": 1, "code": 1, "poem": 1}, "no document comes from 'poem'; the sources are code, docs, poems"),
        ({"docs": 1, "code": 1}, "none for 'poems'; add one"),
        ({"docs": 0, "code": 0, "poems": 0}, "all are 0"),
    ],
)
def test_weights_that_do_not_fit_are_said_in_one_line(
    corpora: list[Documents], weights: dict[str, float], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        draw([corpora[0]], 1, 1000, weights)
    assert "\n" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.integers(0, 10**12), st.floats(0, 1e3, allow_subnormal=False)),
        min_size=1,
    ),
    st.floats(1, 1e12),
)
def test_shares_add_up(sources: dict[str, tuple[int, float]], wanted: float) -> None:
    totals = {name: total for name, (total, _) in sources.items()}
    weights = {name: weight for name, (_, weight) in sources.items()}
    shares = shares_of(totals, wanted, weights)
    there = sum(total for name, total in totals.items() if weights[name] > 0)
    assert sum(shares.values()) == pytest.approx(min(wanted, there), rel=1e-6)
    for name, share in shares.items():
        assert 0 <= share <= totals[name]
        # What is not taken whole has its weight's share beside every other such source.
        for other in shares:
            if share < totals[name] and shares[other] < totals[other]:
                assert share * weights[other] == pytest.approx(shares[other] * weights[name], rel=1e-6, abs=1e-3)


def test_partitions_without_anything_drawn_are_not_read_again(
    corpora: list[Documents], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.vocabulary.sample as module

    drawn = draw([corpora[0]], 1, 300, {})
    read: list[Path] = []
    original = module.read_table
    monkeypatch.setattr(module, "read_table", lambda path, columns: (read.append(path), original(path, columns))[1])
    documents = sum(len(table) for table in drawn.tables())
    assert documents >= 1
    assert len(read) <= documents < len(drawn.partitions)
