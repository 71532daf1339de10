"""Records of builds: what went in, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from storage.artifact import JsonValue
from storage.code import SymbolDigests
from storage.identity import digest_of_value


class Identity(BaseModel):
    """All that goes into a build. Equal identities give equal artifacts."""

    model_config = ConfigDict(frozen=True)

    task: str
    settings: JsonValue
    """Canonical settings, defaults filled in."""
    inputs: dict[str, str]
    """Digest of the input artifact, by slot."""
    code: SymbolDigests
    libraries: dict[str, str]
    outside: JsonValue = None
    """Fingerprint of what the step reads from the outside world."""
    seed: int | None = None
    previous: str | None = None
    """Digest of the step's own previous artifact, for steps that grow."""

    @property
    def key(self) -> str:
        return digest_of_value(self.model_dump(mode="json"))

    def grown_from(self, previous: str | None) -> Identity:
        """The same with another previous artifact."""
        return self.model_copy(update={"previous": previous})


class Build(BaseModel):
    """How an artifact came to be."""

    # A figure that is not finite must not make a record that cannot be read.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    key: str
    artifact: str
    kind: str
    recipe: str
    step: str
    identity: Identity
    input_steps: dict[str, str | None] = {}
    """Name of the step that each input came from; None for an adopted folder."""
    started_at: datetime
    seconds: float
    host: dict[str, JsonValue] = {}
    resources: dict[str, JsonValue] = {}
    metrics: dict[str, float] = {}
    headline: str = ""
    samples: list[dict[str, str | None]] = []
    curves: dict[str, list[tuple[float, float]]] = {}
    """Of a step that trained: some points (step, value) of each figure that changed while it did."""
    results: str = ""
    """Name of the file of what its partitions were made into (see ``storage.memory``); empty if there is none."""
    mlflow_run: str | None = None
    continued_from: str | None = None
    """Of a training that went on where a shorter one ended: key of the build of the state that it began with."""
    accepted_from: str | None = None
    """Key of the build whose artifact was accepted for this key on a person's word (``--reuse``)."""


@dataclass(frozen=True)
class Entry:
    """One line of a step's history."""

    number: int
    key: str
    artifact: str
    at: datetime
