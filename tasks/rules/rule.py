"""What a rule is: settings, and a verdict on every document of a batch at once.

To add a rule: a class with a ``fault`` and a ``faulty``, and a line in ``tasks.rules.RULES``. A rule
that needs more than the texts says so in three steps, so that each thing is read once and travels
little: ``outside`` (what of the world enters the step's key), ``material`` (worked out once, in the
parent; it is pickled to the workers) and ``ready`` (once per worker: compile patterns, load a
model). What ``ready`` returns is handed to every judgement. A rule may have ``Input`` fields, such as
a classifier's model: they are inputs of the step like any other, and ``material`` opens them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from storage.artifact import JsonValue
from tasks.rules.batch import Batch
from tasks.task import Context, Settings, World


@dataclass(frozen=True)
class Judged:
    """What a rule says of a batch."""

    faults: Mapping[str, np.ndarray]
    """Reason → which documents are to be dropped for it; bool, one per document."""
    texts: Mapping[int, str] | None = None
    """Documents that a rule leaves lines out of: index → what remains."""
    found: Mapping[int, str] | None = None
    """What was found in a document, for a person to read beside the reason: index → a few words."""


class Rule(Settings):
    """One rule; ``faulty`` finds the documents to be dropped."""

    fault: ClassVar[str] = ""
    """The reason, a word."""
    shorthand: ClassVar[str] = ""
    """The setting that may stand for all: with ``path``, ``{words: FILE}`` is ``{words: {path: FILE}}``."""

    only_asked: ClassVar[bool] = False
    """Whether its work is too dear to be done for documents on which no verdict is asked any more."""

    def shaping_libraries(self) -> tuple[str, ...]:
        """Distributions that shape the verdicts, beside those that every filter uses."""
        return ()

    def outside(self, world: World) -> JsonValue:
        """What of the outside world shapes the verdicts: a fingerprint for the step's key."""
        return None

    def material(self, context: Context) -> Any:
        """What workers need beside the settings; worked out once and pickled."""
        return None

    def ready(self, material: Any) -> Any:
        """What is made of the material once in each worker."""
        return material

    def batch_characters(self, ready: Any) -> int | None:
        """The most text that should be judged at once, if that is less than usual."""
        return None

    def faulty(self, batch: Batch) -> np.ndarray:
        """Which documents have the fault; bool."""
        raise NotImplementedError

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        """The verdict on every document of the batch."""
        return Judged({self.fault: self.faulty(batch)})


class RuleSet(Rule):
    """Rules together: those that a subclass inherits, in their order."""

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        faults = {}
        for rule in self.rules():
            faults[rule.fault] = rule.faulty(self, batch) & batch.asked
            batch.settle(faults[rule.fault])
        return Judged(faults)

    @classmethod
    def rules(cls) -> list[type[Rule]]:
        return [base for base in cls.__bases__ if base is not RuleSet and issubclass(base, Rule)]
