"""Two texts in rows side by side, with the words that only one of them has marked.

Lines are compared first, then the words of lines that differ; Chinese and Japanese by the
character. What would take long to compare is shown as changed altogether.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from flows.page.markup import Markup, element, escaped

_WIDE = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff"
_LINE = re.compile(r"[^\n]*\n+|[^\n]+\Z")
_WORD = re.compile(rf"\s*(?:[{_WIDE}]|[^\W{_WIDE}]+|[^\w\s{_WIDE}]|\Z)")
_NOT_A_LETTER = re.compile(r"\W+")
_CUT = re.compile(r"\[… [\d,]+ characters more\]\Z")
"""How the text of a sample ends that was cut."""
_MOST_PAIRS = 500_000
"""Of equal words (one here, one there) that two texts may have to be compared: some tenths of a second."""
_LONELY = 2
"""So few equal words in the middle of changed ones are chance."""
_RELATED = 0.25
"""Share of the shorter text that two versions of one text have in common at least."""
_MARKED = re.compile(r"<ins>.*?</ins>", re.DOTALL)

Change = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class Row:
    """A stretch of both texts."""

    kind: str
    """``same``; ``removed`` or ``added`` if only one text has words of its own; ``changed`` if both have;
    ``unknown`` behind the place where a text was cut."""
    before: Markup
    after: Markup


def rows(before: str, after: str) -> list[Row]:
    """The two texts, row by row."""
    lines = _LINE.findall(before), _LINE.findall(after)
    changes = _changes(*lines, _letters)
    cut = _CUT.search(before) is not None or _CUT.search(after) is not None
    found = []
    for number, (kind, i, j, k, m) in enumerate(changes):
        one, other = "".join(lines[0][i:j]), "".join(lines[1][k:m])
        if kind == "equal":
            found.append(Row("same", escaped(one), escaped(other)))
        elif cut and number == len(changes) - 1:
            found.append(Row("unknown", escaped(one), escaped(other)))
        elif kind == "replace":
            left, right = marked(one, other)
            kind = "changed" if "<del>" in left and "<ins>" in right else "removed" if "<del>" in left else "added"
            found.append(Row(kind, left, right))
        else:
            found.append(Row("removed" if one else "added", escaped(one), escaped(other)))
    return found


def related(found: Sequence[Row]) -> bool:
    """Whether the texts are two versions of one: a good part of the shorter is in the other too."""
    shorter = min(sum(len(row.before) for row in found), sum(len(row.after) for row in found))
    both = [row for row in found if row.before and row.after and row.kind != "unknown"]
    return sum(len(_MARKED.sub("", row.after)) for row in both) >= _RELATED * shorter


def marked(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts, ``<del>`` around the words that only the first has, ``<ins>`` around those of the second."""
    words = _WORD.findall(before), _WORD.findall(after)
    left, right = [], []
    for kind, i, j, k, m in _without_chance(_changes(*words, str.strip)):
        one, other = "".join(words[0][i:j]), "".join(words[1][k:m])
        if kind == "equal":
            left.append(escaped(one))
            right.append(escaped(other))
        else:
            left.append(_mark("del", one))
            right.append(_mark("ins", other))
    return Markup("".join(left)), Markup("".join(right))


def _mark(name: str, text: str) -> Markup:
    """White space in front of the first word stays unmarked."""
    words = text.lstrip()
    return Markup(escaped(text[: len(text) - len(words)]) + (element(name, words) if words else ""))


def _letters(line: str) -> str:
    """What has to agree for two lines to be the same: bullets, pipes and spaces may differ."""
    return _NOT_A_LETTER.sub("", line) or line.strip()


def _changes(one: Sequence[str], other: Sequence[str], key: Callable[[str], str]) -> list[Change]:
    """How the first becomes the second, as ``SequenceMatcher`` says it."""
    keys = [key(part) for part in one], [key(part) for part in other]
    counts = Counter(keys[0]), Counter(keys[1])
    if sum(count * counts[1][part] for part, count in counts[0].items()) > _MOST_PAIRS:
        same = keys[0] == keys[1]
        return [("equal" if same else "replace", 0, len(one), 0, len(other))]
    return list(SequenceMatcher(None, *keys, autojunk=False).get_opcodes())


def _without_chance(changes: Sequence[Change]) -> list[Change]:
    """Join changes that are parted by a word or two which both texts have by chance."""
    joined: list[Change] = []
    for number, (kind, i, j, k, m) in enumerate(changes):
        between = 0 < number < len(changes) - 1
        sizes = [max(c[2] - c[1], c[4] - c[3]) for c in changes[max(0, number - 1) : number + 2]]
        lonely = kind == "equal" and between and j - i <= _LONELY and min(sizes[0], sizes[-1]) > 3 * (j - i)
        if joined and joined[-1][0] != "equal" and (kind != "equal" or lonely):
            _, start, _, begin, _ = joined[-1]
            joined[-1] = ("replace", start, j, begin, m)
        else:
            joined.append((kind, i, j, k, m))
    return joined
