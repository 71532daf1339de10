from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data import training_data
from model.data.training_data import TrainingData, make_data
from model.request import LaterStage, Opened, Request, ShardsData, ShardsPart
from storage.errors import UserError
from storage.shards import Shards
from tests.model.training import made_shards, request


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Shards]:
    folder = tmp_path_factory.mktemp("sources")
    return [made_shards(folder / str(number), 30 + 20 * number, seed=number) for number in range(3)]


def described(folder: Path, sources: list[Shards], weights: tuple[float, ...], **changes: object) -> Request:
    later, limits = changes.pop("later", ()), changes.pop("limits", (None, None, None))
    parts = tuple(
        ShardsPart(shards=Opened.of(shards), weight=weight, max_epochs=limit, called=name)
        for shards, weight, limit, name in zip(sources, weights, limits, ("web", "code", "books"), strict=True)
    )
    return request(folder, sources[0], data=ShardsData(parts=parts, later=later), **changes)


def parts_of(data: TrainingData, steps: range) -> np.ndarray:
    """How many of the rows of these steps come from each part; a step is five rows."""
    return np.bincount(data.order.places(5 * steps.start, 5 * len(steps))[0], minlength=3)


def test_stages_begin_with_a_step_and_go_on_in_their_parts(tmp_path: Path, sources: list[Shards]) -> None:
    """Thirty steps: the last six on the third part, the three before on the second and third."""
    later = (LaterStage(share=0.1, weights=(0, 1, 2)), LaterStage(share=0.2, weights=(0, 0, 1)))
    data = make_data(described(tmp_path, sources, (3.0, 2.0, 0.0), later=later))
    assert data.steps == 30
    assert parts_of(data, range(21)).tolist() == [63, 42, 0]
    assert parts_of(data, range(21, 24)).tolist() == [0, 5, 10]
    assert parts_of(data, range(24, 30)).tolist() == [0, 0, 30]
    chosen, rows = data.order.places(0, 150)
    books = rows[chosen == 2]
    assert len(set(books.tolist())) == len(books) == 40  # no sequence twice, in two stages
    assert data.facts["epochs/books"] == pytest.approx(40 / data.order._parts[2].__len__())


def test_a_part_ends_after_its_last_pass_and_that_is_told(tmp_path: Path, sources: list[Shards]) -> None:
    data = make_data(described(tmp_path, sources, (8.0, 1.0, 1.0), limits=(1.0, None, None), tokens=80 * 60))
    size = len(data.order._parts[0])
    chosen, rows = data.order.places(0, 300)
    assert sorted(rows[chosen == 0].tolist()) == list(range(size))  # every sequence once
    assert data.facts["epochs/web"] == 1.0
    end = int(data.facts["ended/web"] / 16)
    assert (chosen[end:] != 0).all()
    assert chosen[end - 1] == 0


def test_more_tokens_than_the_passes_give_are_refused(tmp_path: Path, sources: list[Shards]) -> None:
    with pytest.raises(UserError, match=r"\d+ of 8000000 tokens .* raise max_epochs, or lower"):
        make_data(described(tmp_path, sources, (1.0, 1.0, 1.0), limits=(1.0, 2.0, 1.5), tokens=8_000_000))


def test_held_out_rows_are_kept_by_source(tmp_path: Path, sources: list[Shards]) -> None:
    data = make_data(described(tmp_path, sources, (1.0, 1.0, 1.0)))
    assert list(data.validation) == ["web", "code", "books"]
    assert all(len(rows) for rows in data.validation.values())


def test_a_loss_that_decides_is_measured_on_more(
    tmp_path: Path, sources: list[Shards], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = described(tmp_path, sources, (1.0, 1.0, 1.0), batch_tokens=16)
    everything = {name: len(rows) for name, rows in make_data(judged(one)).validation.items()}
    assert min(everything.values()) > 3
    monkeypatch.setattr(training_data, "JUDGED_TOKENS", 3 * 16)
    assert {len(rows) for rows in make_data(judged(one)).validation.values()} == {3}
    assert {len(rows) for rows in make_data(one).validation.values()} == {2}  # two batches of one sequence


def judged(request: Request) -> Request:
    return request.model_copy(update={"keep": "best", "evaluate_every": 16})


def test_a_step_by_another_name_is_the_same_run(tmp_path: Path, sources: list[Shards]) -> None:
    plain = described(tmp_path, sources, (1.0, 1.0, 1.0))
    parts = tuple(part.model_copy(update={"called": "other"}) for part in plain.data.parts)
    assert plain.model_copy(update={"data": ShardsData(parts=parts)}).identity == plain.identity
