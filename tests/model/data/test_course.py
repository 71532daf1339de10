from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.course import Course, Stage
from model.data.mixture import Schedule

WEIGHTS = st.lists(st.integers(0, 7), min_size=3, max_size=3).filter(any).map(tuple)
STAGES = st.lists(st.builds(Stage, WEIGHTS, st.integers(0, 60)), min_size=1, max_size=3)
LIMITS = st.lists(st.none() | st.integers(0, 40), min_size=3, max_size=3)


def written_out(stages: list[Stage], limits: list[int | None]) -> list[int]:
    """Row by row: each stretch is a schedule of the parts that may still give, begun anew when one ends."""
    rows: list[int] = []
    counts = [0, 0, 0]
    for stage in stages:
        left = stage.rows
        while left:
            drawn = [p for p in range(3) if stage.weights[p] and (limits[p] is None or counts[p] < limits[p])]
            if not drawn:
                return rows
            chosen = iter(Schedule([stage.weights[p] for p in drawn]).parts(0, left).tolist())
            while left and all(limits[p] is None or counts[p] < limits[p] for p in drawn):
                part = drawn[next(chosen)]
                counts[part] += 1
                rows.append(part)
                left -= 1
    return rows


@settings(deadline=None)
@given(STAGES, LIMITS, st.integers(0, 100), st.integers(0, 50))
def test_any_stretch_is_what_row_by_row_gives(
    stages: list[Stage], limits: list[int | None], start: int, count: int
) -> None:
    course, rows = Course(stages, limits), written_out(stages, limits)
    assert course.length == len(rows)
    start, stop = min(start, len(rows)), min(start + count, len(rows))
    if rows:
        assert course.parts(start, stop - start).tolist() == rows[start:stop]
        assert course.given(stop).tolist() == np.bincount(rows[:stop], minlength=3).tolist()
    for part, end in course.ends.items():
        assert rows[:end].count(part) == limits[part]
        assert part not in rows[end:]


def test_a_single_unbounded_stage_is_the_schedule() -> None:
    weights = (0.7, 0.1, 0.2)
    course = Course([Stage(weights, 1000)], [None, None, None])
    assert course.parts(0, 1000).tolist() == Schedule(weights).parts(0, 1000).tolist()
    assert (course.length, course.ends) == (1000, {})


def test_a_part_that_may_give_no_more_leaves_its_share_to_the_others() -> None:
    """Half of the rows until its 50 are given; then the other two share one to three."""
    course = Course([Stage((4, 1, 3), 500)], [50, None, None])
    assert course.ends == {0: 99}  # the row after its 50th, which the schedule has at 98
    assert course.given(500).tolist() == [50, *(np.array([12, 37]) + Schedule((1, 3)).given(401))]
