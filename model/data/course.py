"""Which part each row of a training comes from, where the mixture changes from stage to stage and parts may end.

A training is a sequence of stretches, each with a schedule of its own (``model.data.mixture.Schedule``). A
stretch ends with its stage, or where one of its parts has been passed over as often as it may be:
from that row on the others share in their proportions. All follows by arithmetic from the stages
and the bounds, so any stretch of rows can be drawn at once.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.mixture import Schedule
from model.data.packing import Ints


@dataclass(frozen=True)
class Stage:
    """A mixture, and for how many rows it lasts."""

    weights: tuple[float, ...]
    """Of every part; 0: it is not drawn from."""
    rows: int


@dataclass(frozen=True)
class _Stretch:
    """Rows with one schedule."""

    start: int
    parts: Ints
    """Numbers of the parts that the schedule draws from."""
    schedule: Schedule
    given: Ints
    """Rows of every part before it."""


class Course:
    """The part of every row, and how many rows each part has given before it."""

    def __init__(self, stages: Sequence[Stage], limits: Sequence[int | None]) -> None:
        """``limits``: the most rows that each part gives in all stages together; None: any number."""
        self._stretches: list[_Stretch] = []
        self._limits = list(limits)
        self.length = 0
        """Rows in all: fewer than the stages ask for where their parts end before."""
        self.ends: dict[int, int] = {}
        """At which row a part has given all that it may, of those that do."""
        given = np.zeros(len(limits), np.int64)
        for stage in stages:
            if not self._add(stage, given):
                break

    def parts(self, start: int, count: int) -> Ints:
        """The parts of rows ``start`` to ``start + count``; behind the end, what would come without bounds."""
        found = [np.zeros(0, np.int64)]
        end = start + count
        while start < end:
            number = self._stretch_of(start)
            stretch = self._stretches[number]
            last = number + 1 == len(self._stretches)
            stop = end if last else min(end, self._stretches[number + 1].start)
            found.append(stretch.parts[stretch.schedule.parts(start - stretch.start, stop - start)])
            start = stop
        return np.concatenate(found)

    def given(self, position: int) -> Ints:
        """How many of the rows before ``position`` come from each part."""
        stretch = self._stretches[self._stretch_of(position)]
        found = stretch.given.copy()
        found[stretch.parts] += stretch.schedule.given(position - stretch.start)
        return found

    def _stretch_of(self, position: int) -> int:
        return bisect.bisect_right(self._stretches, position, key=lambda stretch: stretch.start) - 1

    def _add(self, stage: Stage, given: Ints) -> bool:
        """Append a stage's stretches, and count ``given`` on; whether its parts gave all its rows."""
        left = stage.rows
        while left:
            drawn = [part for part, weight in enumerate(stage.weights) if weight and self._room(part, given) != 0]
            if not drawn:
                return False
            schedule = Schedule([stage.weights[part] for part in drawn])
            self._stretches.append(_Stretch(self.length, np.array(drawn), schedule, given.copy()))
            rooms = [(index, self._room(part, given)) for index, part in enumerate(drawn)]
            rows = min([left, *(_rows_until(schedule, index, room) for index, room in rooms if room is not None)])
            given[drawn] += schedule.given(rows)
            self.length, left = self.length + rows, left - rows
            self.ends |= {part: self.length for part in drawn if self._room(part, given) == 0}
        return True

    def _room(self, part: int, given: Ints) -> int | None:
        limit = self._limits[part]
        return None if limit is None else limit - int(given[part])


def _rows_until(schedule: Schedule, part: int, wanted: int) -> int:
    """After how many rows a part has first given so many."""
    return bisect.bisect_left(
        range(schedule.period * (wanted + 1)), wanted, key=lambda row: int(schedule.given(row)[part])
    )
