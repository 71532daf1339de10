"""What rules say one after the other of documents, each of which is judged by itself, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.rules.batch import Batch
from tasks.rules.rule import Rule
from tasks.text.languages import UNKNOWN, Language

_WORTH_KEEPING = 0.25
"""While a batch's documents that are still judged have this share of its text, its columns are used on; making the
columns of these documents alone would take longer than working out what is left to know of all."""


@dataclass
class Verdict:
    """What was found out about one document."""

    text: str
    """What the rules leave of it."""
    language: Language = UNKNOWN
    reasons: list[str] = field(default_factory=list)
    """Why it should not be kept, in the order of the checks."""
    found: dict[str, str] = field(default_factory=dict)
    """Reason → what was found, for a person to read."""

    def add(self, reason: str, found: str = "") -> None:
        self.reasons.append(reason)
        if found:
            self.found[reason] = found


def apply(rules: Sequence[tuple[str, Rule, Any]], verdicts: Sequence[Verdict], one_fault_settles: bool) -> None:
    """Add to the verdicts what each rule (name, settings, what it made ready) finds, and what it leaves of the texts.

    A later rule sees what an earlier one leaves. With ``one_fault_settles`` a document's first reason is its only one.
    """
    groups = [_Group(verdicts, one_fault_settles)]
    for name, rule, ready in rules:
        groups = [group.narrowed(rule.only_asked) for group in groups if group.batch.asked.any()]
        changed = [verdict for group in groups for verdict in group.judge(name, rule, ready)]
        if changed:
            groups.append(_Group(changed, one_fault_settles))


class _Group:
    """Documents with the columns of their texts, which the rules share until a text changes."""

    def __init__(self, verdicts: Sequence[Verdict], one_fault_settles: bool) -> None:
        self.verdicts, self.one_fault_settles = verdicts, one_fault_settles
        self.batch = Batch(
            [verdict.text for verdict in verdicts],
            [verdict.language.code for verdict in verdicts],
            one_fault_settles=one_fault_settles,
        )

    def narrowed(self, strictly: bool) -> _Group:
        """Without the documents that are not judged any more, if there are many or if that is wanted."""
        asked, characters = self.batch.asked, self.batch.characters
        if asked.all() or not (strictly or characters[asked].sum() < _WORTH_KEEPING * characters.sum()):
            return self
        return _Group([self.verdicts[index] for index in asked.nonzero()[0].tolist()], self.one_fault_settles)

    def judge(self, name: str, rule: Rule, ready: Any) -> list[Verdict]:
        """Apply a rule; the documents whose texts it changes leave the group and are returned."""
        asked = self.batch.asked.copy()
        judged = rule.judge(self.batch, ready)
        for fault, faulty in judged.faults.items():
            reason = fault if fault == name else f"{name}.{fault}"
            for index in (faulty & asked).nonzero()[0].tolist():
                self.verdicts[index].add(reason, (judged.found or {}).get(index, ""))
            if self.one_fault_settles:
                asked &= ~faulty
        texts = {index: text for index, text in (judged.texts or {}).items() if asked[index]}
        for index, text in texts.items():
            self.verdicts[index].text = text
            asked[index] = False
        self.batch.asked = asked
        return [self.verdicts[index] for index in texts]
