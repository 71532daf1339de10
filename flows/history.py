"""The builds that the steps of a recipe have behind them."""

from __future__ import annotations

from dataclasses import dataclass

from storage.builds import Build, Entry
from storage.store import Store

_LOOKED_AT = 3
"""So many of a step's last builds are looked through for rows to reuse: settings may have been tried in between."""


@dataclass(frozen=True)
class History:
    """What the store lists under a name, step by step."""

    store: Store
    name: str

    def latest_entry(self, step: str) -> Entry | None:
        """The step's last line, whether or not what it names is still there."""
        entries = self.store.history(self.name, step, last=1)
        return entries[-1] if entries else None

    def latest_build(self, step: str) -> Build | None:
        """The record of the step's latest build, whether or not its artifact is still there."""
        entry = self.latest_entry(step)
        return self.store.record_of(entry.key) if entry else None

    def results(self, step: str) -> list[str]:
        """Names of what the step's last builds remember of single partitions, oldest first."""
        records = [self.store.record_of(entry.key) for entry in self.store.history(self.name, step, last=_LOOKED_AT)]
        return list(dict.fromkeys(record.results for record in records if record is not None and record.results))

    def append(self, step: str, build: Build) -> None:
        """Say that this build is now the step's."""
        self.store.append_history(self.name, step, build.key, build.artifact)
