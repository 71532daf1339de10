"""Where prompt and response pairs come from."""

from __future__ import annotations

import json
import lzma
import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import Documents, document_id
from storage.errors import SourceError
from storage.identity import digest_of_value
from tasks.sources.base import Bad, PassedOver
from tasks.sources.decompress import open_decompressed
from tasks.sources.paths import files_at
from tasks.sources.pydoc import Pydoc, rendered
from tasks.task import Context, Input, Outside, Settings, World

_MOST_SIGNATURE = 100
_MOST_ANSWER = 400
_LEAST_ANSWER = 15
_MOST_LINE = 10_000_000
_SENTENCE_END = re.compile(r"[。！？]|[.!?](?=\s|$)")


@dataclass(frozen=True)
class Pair:
    """A question and its answer; pairs with one ``document_id`` are on one side of the split."""

    prompt: str
    response: str
    document_id: str


class PairSource(Settings):
    """Where pairs come from."""

    name: str = ""
    """Default: the kind (``jsonl``, then ``jsonl-2`` …)."""

    @abstractmethod
    def fingerprint(self, world: World) -> JsonValue:
        """What the pairs depend on outside the recipe. Raises SourceError if there is nothing."""

    @abstractmethod
    def pairs(self, context: Context) -> Iterator[Pair | Bad | PassedOver]:
        """The pairs, always in the same order; the world's ``limit`` bounds pages, or lines."""


class PydocPairs(PairSource):
    """What the standard library's modules, classes, functions and methods do, in their own words.

    An example belongs to the page of its module, so it is on that page's side of the split. An
    object that several modules show is asked for once, where it is at home; and an answer that
    many objects give (copied docstrings) is taken once, so none is trained on and held out too.
    """

    kind: Literal["pydoc"] = "pydoc"
    name: str = "pydoc"
    """The name that the ``pydoc`` source has in ``collect``: ids of pages, hence the split, follow from it."""

    def fingerprint(self, world: World) -> JsonValue:
        return Pydoc().fingerprint(world)

    def pairs(self, context: Context) -> Iterator[Pair | Bad | PassedOver]:
        answered: set[str] = set()
        pages = 0
        for line in rendered("pairs"):
            if "error" in line:
                continue
            if pages == context.world.limit:
                break
            pages += 1
            document = document_id(self.name, f"{line['module']}.html")
            for kind, name, signature, summary in line["pairs"]:
                answer = _shortened(summary)
                if not answer:
                    yield PassedOver(name, "answer_too_short")
                elif (key := re.sub(r"\W+", " ", answer.casefold())) in answered:
                    yield PassedOver(name, "answer_repeated")
                else:
                    answered.add(key)
                    yield Pair(_question(kind, name, signature), answer, document)


def _question(kind: str, name: str, signature: str) -> str:
    if kind == "module":
        return f"What is the module {name} for?"
    if kind == "class":
        return f"What is the class {name}?"
    if kind == "method":
        signature = re.sub(r"^\((?:self|cls)(?:, )?", "(", signature).replace("(/, ", "(").replace("(/)", "()")
    return f"What does {name}{signature if len(signature) <= _MOST_SIGNATURE else '(...)'} do?"


def _shortened(answer: str) -> str:
    """Whole sentences up to ``_MOST_ANSWER`` characters; empty if there is nothing to learn from."""
    if len(answer) > _MOST_ANSWER:
        end = max(answer.rfind(". ", 0, _MOST_ANSWER), answer.rfind("; ", 0, _MOST_ANSWER))
        answer = answer[: end + 1]
    return answer if len(answer) >= _LEAST_ANSWER and " " in answer else ""


class TitlePairs(PairSource):
    """The titles of documents and how their texts begin: for pages that nobody has asked questions about yet.

    An example is on its document's side of the split. Of several documents with one title, such as a
    site's name, only the first counts.
    """

    kind: Literal["titles"] = "titles"
    documents: Input[Documents]
    """Documents with titles, as ``clean_html`` finds them."""
    max_characters: int = Field(300, ge=_LEAST_ANSWER)
    """Longest response: whole sentences, as many as fit."""

    def fingerprint(self, world: World) -> JsonValue:
        return None

    def pairs(self, context: Context) -> Iterator[Pair | Bad | PassedOver]:
        seen: set[str] = set()
        for table in context.open(self.documents).tables(["id", "url", "title", "text"]):
            for row in table.to_pylist():
                title, beginning = row["title"], _beginning(row["text"], row["title"] or "", self.max_characters)
                if not title or not beginning:
                    yield PassedOver(row["url"], "title_missing" if not title else "answer_too_short")
                elif title in seen:
                    yield PassedOver(row["url"], "title_repeated")
                else:
                    seen.add(title)
                    yield Pair(title, beginning, row["id"])


def _beginning(text: str, title: str, most: int) -> str:
    """The first paragraph's whole sentences up to ``most`` characters; empty if there are none.

    Lines before it that only repeat the title, or are headings, are passed over: a paragraph has a sentence's end.
    """
    for line in text.split("\n"):
        # One character more shows whether a full stop at the limit ends a sentence, or stands within a number.
        ends = [match.end() for match in _SENTENCE_END.finditer(line[: most + 1]) if match.end() <= most]
        if ends and ends[-1] >= _LEAST_ANSWER and line.strip() not in title:
            return line[: ends[-1]].strip()
    return ""


class JsonlPairs(PairSource):
    """Pairs from JSON lines, compressed or not: one object a line, two of its fields being prompt and response.

    Pairs with the same prompt are on one side of the split.
    """

    kind: Literal["jsonl"] = "jsonl"
    path: Annotated[str, Outside()]
    """A file, a folder, or a glob."""
    prompt: str
    """The field with the prompt."""
    response: str
    """The field with the response."""
    max_bad_fraction: float = Field(0.01, ge=0, le=1)
    """The share of unusable lines from which the step fails. A single one never fails it, unless this is 0."""

    def fingerprint(self, world: World) -> JsonValue:
        root, names = files_at(world.folder, self.path, self._place)
        return digest_of_value([[ascii(name), world.digest_of_file(root / name)] for name in names])

    def pairs(self, context: Context) -> Iterator[Pair | Bad | PassedOver]:
        world = context.world
        root, names = files_at(world.folder, self.path, self._place)
        taken, bad, first = 0, 0, ""
        for name in names:
            for number, line in _lines(root / name, self._place):
                if taken == world.limit:
                    break
                if not line.strip():
                    continue
                fields = self._fields(line)
                if isinstance(fields, str):
                    bad += 1
                    first = first or f"{name}, line {number}: {fields}"
                    yield Bad(f"{name}:{number}", "bad_line", fields)
                else:
                    taken += 1
                    prompt, response = fields
                    yield Pair(prompt, response, document_id(self.name or self.kind, prompt))
        tolerated = max(int(self.max_bad_fraction * (taken + bad)), 1 if self.max_bad_fraction else 0)
        if bad > tolerated or not taken:
            first = first or f"{self.path}: there is no line"
            raise SourceError(
                f"{self._place}: {first} ({bad} of {taken + bad} lines are unusable); correct the file, "
                f"`prompt` and `response`, or raise `max_bad_fraction` (now {self.max_bad_fraction:g})"
            )

    def _fields(self, line: bytes) -> tuple[str, str] | str:
        """Prompt and response, or what is wrong with the line."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            return f"it is not JSON ({error})" if isinstance(error, ValueError) else "it is nested too deep"
        if not isinstance(record, dict):
            return f"it is a JSON {type(record).__name__}, not an object"
        found = []
        for field in (self.prompt, self.response):
            if field not in record:
                return f"there is no field {field!r}; its fields are {', '.join(sorted(record)) or 'none'}"
            text = _text(record[field])
            if text is None:
                return f"the field {field!r} holds no text"
            found.append(text)
        return found[0], found[1]

    @property
    def _place(self) -> str:
        return f"source {self.name or self.kind}"


def _text(value: Any) -> str | None:
    """The field's value as text without white space around it; None if there is none in it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    # Lone surrogates, which JSON can spell, are no text.
    return value.strip().encode("utf-8", "replace").decode("utf-8")


def _lines(path: Path, place: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file, decompressed. SourceError if it breaks off or cannot be read."""
    number = 0
    try:
        with open_decompressed(path) as file:
            while line := file.readline(_MOST_LINE):
                number += 1
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"{place}: {path.name} cannot be read after line {number} ({error}); get it again") from error
