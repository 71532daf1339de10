"""How well a tokenizer serves the texts that it was trained on, by language and source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.tokenizer import Tokenizer
from tasks.task import Sample

_MOST_GROUPS = 20
"""Languages or sources that are told apart; the ones with less text are counted only in all."""
_LONGEST_SHOWN = 40
_SHOWN_CHARACTERS = 300


@dataclass
class Report:
    """Counts over the documents of a sample."""

    tokenizer: Tokenizer
    pieces: list[str]
    """All pieces by their ids; those that no text is made of are empty."""
    uses: npt.NDArray[np.int64] = field(init=False)
    """(pieces) how often each was used."""
    bytes: dict[str, Counter[str]] = field(default_factory=lambda: {"language": Counter(), "source": Counter()})
    tokens: dict[str, Counter[str]] = field(default_factory=lambda: {"language": Counter(), "source": Counter()})
    texts: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """By language, the document of the lowest id, its URL, and its text's beginning."""

    def __post_init__(self) -> None:
        self.uses = np.zeros(len(self.pieces), np.int64)

    def add(self, table: pa.Table) -> None:
        """Count the documents of a table with id, url, text, source and language."""
        values, offsets = self.tokenizer.encode_columns(table["text"])
        self.uses += np.bincount(values, minlength=len(self.uses))
        counted = pa.table(
            {
                "bytes": pc.binary_length(table["text"]).cast(pa.int64()),
                "tokens": np.diff(offsets),
                "source": table["source"],
                "language": pc.fill_null(table["language"], "unknown"),
            }
        )
        for kind in self.bytes:
            for row in counted.group_by(kind).aggregate([("bytes", "sum"), ("tokens", "sum")]).to_pylist():
                self.bytes[kind][row[kind]] += row["bytes_sum"]
                self.tokens[kind][row[kind]] += row["tokens_sum"]
        for identity, url, language, text in zip(
            table["id"].to_pylist(),
            table["url"].to_pylist(),
            counted["language"].to_pylist(),
            pc.utf8_slice_codeunits(table["text"], 0, _SHOWN_CHARACTERS).to_pylist(),
            strict=True,
        ):
            if text and (language not in self.texts or identity < self.texts[language][0]):
                self.texts[language] = (identity, url, text)

    def metrics(self) -> dict[str, float]:
        """Bytes per token in all, by language and by source; pieces that the sample makes no use of."""
        metrics: dict[str, float] = {
            "bytes_per_token": self.bytes["source"].total() / max(1, self.tokens["source"].total()),
            "unused_pieces": int((self.uses[self._ordinary()] == 0).sum()),
        }
        for kind, sizes in self.bytes.items():
            for name, size in sizes.most_common(_MOST_GROUPS):
                metrics[f"bytes_per_token.{kind}.{metric_name(name)}"] = size / max(1, self.tokens[kind][name])
        return metrics

    def samples(self) -> list[Sample]:
        """What a person judges a vocabulary by."""
        lines = [
            f"{size / max(1, self.tokens[kind][name]):6.2f}  {kind} {name} ({size:,} bytes)"
            for kind, sizes in self.bytes.items()
            for name, size in sizes.most_common(_MOST_GROUPS)
        ]
        ordinary = self._ordinary()
        longest = sorted(ordinary.tolist(), key=lambda token: (-len(self.pieces[token]), token))[:_LONGEST_SHOWN]
        unused = ordinary[self.uses[ordinary] == 0].tolist()
        samples = [Sample("bytes per token", "\n".join(lines), before_is="bytes per token, by language and source")]
        samples += [
            Sample(f"pieces of a text, language {language}", self._in_pieces(text), place=url, before_is="pieces")
            for language, (_, url, text) in sorted(self.texts.items())[:_MOST_GROUPS]
        ]
        samples.append(
            Sample("the longest pieces", self._listed(longest), before_is="pieces, and how often each is used")
        )
        if unused:
            shown = f"{len(unused):,} in all: {self._listed(unused[-_LONGEST_SHOWN:])}"
            samples.append(Sample("pieces that the sample makes no use of", shown, before_is="pieces"))
        return samples

    def _ordinary(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero([bool(piece) for piece in self.pieces])

    def _listed(self, tokens: Iterable[int]) -> str:
        return "\n".join(f"{self.pieces[token]!r}  {self.uses[token]:,}" for token in tokens)

    def _in_pieces(self, text: str) -> str:
        return "|".join(self.tokenizer.decode([token]) for token in self.tokenizer.encode(text).tolist())


def metric_name(source: str) -> str:
    """The name as part of a metric's: of signs only those that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", source)
