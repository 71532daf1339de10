"""The outside world as a run sees it: as it was when the run was planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from storage.filecache import DigestCache

T = TypeVar("T")


@dataclass(frozen=True)
class RecipeWorld:
    """The outside world as the recipe's sources see it; see ``tasks.task.World``."""

    folder: Path
    limit: int | None
    digests: DigestCache

    seen: dict[str, str] = field(default_factory=dict)
    """Digests of the files that were looked at: a run sees the world as it was when it was planned."""
    found: dict[Hashable, Any] = field(default_factory=dict)
    """What else was looked for, by the question."""

    def digest_of_file(self, path: str | Path) -> str:
        place = os.fspath(path)
        digest = self.seen.get(place)
        if digest is None:
            digest = self.seen[place] = self.digests.digest_of_file(place)
        return digest

    def once(self, question: Hashable, find: Callable[[], T]) -> T:
        if question not in self.found:
            self.found[question] = find()
        answer: T = self.found[question]
        return answer
