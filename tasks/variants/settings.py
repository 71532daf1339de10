"""How new texts are made, and how close to their source they have to stay: the settings of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from storage.artifact import Network
from tasks.task import Input, Outside, Settings
from tasks.variants.closeness import Measure


class _Method(Settings):
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] = ()
    """Apply it only to documents in these languages (their column ``language``); empty for all."""


class Synonyms(_Method):
    """Words replaced by synonyms from a lexicon."""

    kind: Literal["synonyms"] = "synonyms"
    lexicon: Annotated[str, Outside()]
    """A file in UTF-8: on every line a word and its synonyms, after a tab each; or JSON, ``{"word": ["synonym"]}``.
    Words are whole words, in scripts without spaces the longest entry at each place."""
    share: float = Field(0.15, gt=0, le=1)
    """Share of the words (characters, in scripts without spaces) to be replaced, as far as the lexicon has them."""
    variants: int = Field(1, ge=1, le=100)
    """New texts per document."""


class BackTranslation(_Method):
    """Translation into another language and back (Sennrich et al. 2016), sentence by sentence."""

    kind: Literal["back_translation"] = "back_translation"
    forward: Input[Network]
    """The network that translates the documents: ``{path: FOLDER}`` of any ``transformers`` seq2seq network."""
    backward: Input[Network]
    """The network that translates them back."""
    forward_prefix: str = ""
    """Put before every sentence, where a network wants it: ``translate English to German: ``, ``>>zho<< ``."""
    backward_prefix: str = ""
    """The same for the way back."""
    beams: int = Field(1, ge=1, le=64)
    """Beams of the search for a translation; 1 takes the likeliest token each time."""


AnyMethod = Annotated[Synonyms | BackTranslation, Field(discriminator="kind")]
"""The settings of a method, told apart by ``kind``."""


class Closeness(Settings):
    """How close a new text has to stay to its source."""

    model: Input[Network]
    """The encoder: ``{path: FOLDER}`` of any ``transformers`` network with a ``tokenizer.json``."""
    measure: Measure = "embedding"
    """``embedding``: cosine of the mean token vectors; ``bertscore``: F1 of tokens matched by their vectors."""
    at_least: float = Field(0.85, ge=-1, le=1)
    """New texts less close than this are rejected."""
