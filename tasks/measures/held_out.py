"""The texts that models are measured on, as the tokens of a given tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model.data.batches import Text
from model.data.training_data import tokenised_examples
from model.inference.scoring import predicted_tokens
from storage.corpus import Examples
from storage.errors import SourceError, UserError
from storage.shards import Shards, SplitName
from storage.tokenizer import Tokenizer
from tasks.measures.score import Score


@dataclass(frozen=True)
class HeldOut:
    """Texts to predict."""

    texts: Sequence[Text]
    utf8_bytes: int
    """Size of what is predicted: of the documents, or of the responses."""

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return predicted_tokens(self.texts)

    def score(self, nats: float) -> Score:
        """The figures of a model that spends this many nats on the texts."""
        return Score(nats, self.tokens, self.utf8_bytes)


def documents_of(data: Shards, split: SplitName, tokenizer: Tokenizer) -> HeldOut:
    """The documents of a split.

    With another tokenizer than the shards' own the documents are decoded and encoded again. Raises
    UserError where decoding does not give back the text, SourceError for an empty split.
    """
    documents = data.split(split)
    if documents.documents == 0:
        remedy = "raise validation_fraction or give more documents" if split == "validation" else "give more documents"
        raise SourceError(f"data: the {split} split of the shards is empty: {remedy}")
    documents.prefetch(range(len(documents.index.files)))
    texts = [Text(documents.document(index)) for index in range(documents.documents)]
    if not same_tokenizer(data.tokenizer, tokenizer):
        texts = _encoded_again(texts, data.tokenizer, tokenizer, documents.utf8_bytes)
    return HeldOut(texts, documents.utf8_bytes)


def responses_of(examples: Examples, split: SplitName, tokenizer: Tokenizer) -> HeldOut:
    """The responses of a split, each after its prompt. Raises SourceError for an empty split."""
    table = examples.split(split)
    if table.num_rows == 0:
        remedy = "raise validation_fraction or give more examples" if split == "validation" else "give more examples"
        raise SourceError(f"examples: the {split} split is empty: {remedy}")
    prompts, responses = table["prompt"].to_pylist(), table["response"].to_pylist()
    texts = tokenised_examples(prompts, responses, tokenizer)
    return HeldOut(texts, sum(len(response.encode()) for response in responses))


def same_tokenizer(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether both give the same ids: they hold one and the same definition."""
    return any(
        name in one.manifest.files
        and name in other.manifest.files
        and one.manifest.files[name].object == other.manifest.files[name].object
        for name in ("tokenizer.model", "tokenizer.json")
    )


def _encoded_again(texts: Iterable[Text], old: Tokenizer, new: Tokenizer, utf8_bytes: int) -> list[Text]:
    plain = [old.decode([int(token) for token in text.tokens[1:-1]]) for text in texts]
    found = sum(len(text.encode()) for text in plain)
    if found != utf8_bytes:
        raise UserError(
            f"data: the shards' tokenizer does not give back its documents ({found} of {utf8_bytes} bytes), "
            "so a model with another tokenizer cannot be measured on them"
        )
    begin, end = [new.bos_id], [new.eos_id]
    return [Text(np.concatenate([begin, tokens, end]).astype(np.int64)) for tokens in new.encode_many(plain)]
