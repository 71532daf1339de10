"""Documents that use words from a list: offensive ones, a customer's names, whatever the list holds.

None ships with Athanor. A list is a UTF-8 file with an entry a line; entries may be of several words.
Where words are separated by spaces, an entry matches between characters that are no letters or
digits, in any case; in Chinese, Japanese, Thai and the like it matches anywhere, which is why short
entries of such lists need a look (``allow``).
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from storage.artifact import JsonValue
from storage.errors import SourceError
from storage.identity import digest_of_text
from tasks.rules.batch import Batch
from tasks.rules.rule import Judged, Rule
from tasks.task import Context, Outside, World

_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
_SHOWN = 5


class Words(Rule):
    """Few words from a list; by default none, as C4 has it."""

    fault: ClassVar[str] = "words"
    shorthand: ClassVar[str] = "path"

    path: Annotated[str, Outside()]
    """File of the list, an entry a line, from the recipe's folder; ``{language}`` in it stands for the code
    of a document's language. ``package:NAME/FILE`` names a file in an installed Python package."""
    max_share: float = Field(0.0, ge=0, le=1)
    """Share of a document's words that are in the list, at most; 0: none at all."""
    allow: tuple[str, ...] = ()
    """Entries that are passed over (C4 does so with ``性``, which is in every tenth Chinese page)."""

    def outside(self, world: World) -> JsonValue:
        return {language: digest_of_text("\n".join(entries)) for language, entries in self._lists(world.folder).items()}

    def material(self, context: Context) -> dict[str, tuple[str, ...]]:
        return self._lists(context.world.folder)

    def ready(self, material: Any) -> dict[str, _List]:
        return {language: _List(entries, language in _WITHOUT_SPACES) for language, entries in material.items()}

    def judge(self, batch: Batch, ready: Any = None) -> Judged:
        faulty, found = np.zeros(len(batch), dtype=bool), {}
        for language in sorted(set(batch.languages)):
            entries = ready.get(language, ready.get(""))
            if entries is None:
                continue
            for index in entries.suspects(batch, np.flatnonzero((batch.languages == language) & batch.asked)):
                matches = entries.matches(batch.texts[index])
                words = sum(len(match.split()) or 1 for match in matches)
                if words > self.max_share * max(int(batch.word_counts[index]), 1):
                    faulty[index] = True
                    found[index] = ", ".join(sorted(set(matches))[:_SHOWN])
        return Judged({self.fault: faulty}, found=found)

    def _lists(self, folder: Path) -> dict[str, tuple[str, ...]]:
        """Language (empty: any) → entries, in lower case."""
        files = self._files(folder)
        if not files:
            raise SourceError(f"words: no list at {self.path!r}; correct the path (from the recipe's folder)")
        lists = {}
        for language, path in files.items():
            try:
                lines = path.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(f"words: {path} cannot be read as UTF-8 ({error}); correct the file") from error
            entries = {line.strip().lower() for line in lines} - {"", *(word.lower() for word in self.allow)}
            lists[language] = tuple(sorted(entries))
        return lists

    def _files(self, folder: Path) -> dict[str, Any]:
        root, _, pattern = self.path.removeprefix("package:").partition("/")
        if self.path.startswith("package:"):
            try:
                folder = Path(str(resources.files(root)))
            except ModuleNotFoundError as error:
                raise SourceError(f"words: there is no package {root!r}; install it, or correct the path") from error
        else:
            pattern = self.path
        path = folder / pattern
        if "{language}" not in pattern:
            return {"": path} if path.is_file() else {}
        before, _, after = path.name.partition("{language}")
        if "{language}" in str(path.parent) or "{language}" in after:
            raise SourceError(f"words: {self.path!r}: {{language}} may stand once, in the file's name")
        named = [file for file in sorted(path.parent.glob("*")) if file.is_file()]
        return {
            file.name[len(before) : len(file.name) - len(after)]: file
            for file in named
            if file.name.startswith(before)
            and file.name.endswith(after)
            and re.fullmatch("[a-z]{2,3}", file.name[len(before) : len(file.name) - len(after)])
        }


class _List:
    """The entries of one list as patterns: one of RE2 for whole columns, one of ``re`` that says what was found."""

    def __init__(self, entries: tuple[str, ...], anywhere: bool) -> None:
        # Longer ones first, so that the longest of several is what is found.
        words = "|".join(map(re.escape, sorted(entries, key=lambda entry: (-len(entry), entry)))) or r"[^\s\S]"
        self._column = f"({words})" if anywhere else rf"(?:^|[^\pL\pN\pM_])({words})(?:$|[^\pL\pN\pM_])"
        self._pattern = re.compile(words if anywhere else rf"(?<!\w)(?:{words})(?!\w)")

    def suspects(self, batch: Batch, documents: np.ndarray) -> list[int]:
        """Those of the documents that hold an entry."""
        texts = pc.utf8_lower(pa.array([batch.texts[index] for index in documents], pa.large_string()))
        return documents[np.asarray(pc.match_substring_regex(texts, self._column))].tolist()

    def matches(self, text: str) -> list[str]:
        """The entries that a text holds, each as often as it occurs."""
        return self._pattern.findall(text.lower())
