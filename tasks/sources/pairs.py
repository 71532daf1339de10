"""Where prompt and response pairs come from."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from storage.artifact import JsonValue
from storage.corpus import Documents, document_id
from tasks.sources.base import Bad, PassedOver
from tasks.sources.pydoc import Pydoc, rendered
from tasks.task import Context, Input, Settings, World

_MOST_SIGNATURE = 100
_MOST_ANSWER = 400
_LEAST_ANSWER = 15
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
