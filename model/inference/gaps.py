"""Prompts with gaps: ``The <extra_id_0> sat on <extra_id_1>.``"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from storage.errors import UserError
from storage.tokenizer import SENTINEL

if TYPE_CHECKING:
    from storage.tokenizer import Tokenizer

_GAP = re.compile(" ?" + SENTINEL.format(r"(\d+)"))
"""With the space before it: in vocabularies that begin words with a space, it belongs to what is missing."""


def ids_with_gaps(prompt: str, tokenizer: Tokenizer) -> list[int] | None:
    """The prompt as a whole text with gaps, ended by the end token; None where it has none, or the tokenizer.

    Raises UserError for gaps that are not numbered from 0 on, or more of them than the tokenizer has sentinels.
    """
    sentinels = tokenizer.sentinel_ids
    numbers = [int(number) for number in _GAP.findall(prompt)]
    if not numbers or not sentinels:
        return None
    if numbers != list(range(len(numbers))) or len(numbers) > len(sentinels):
        raise UserError(
            f"the gaps of the prompt must be {SENTINEL.format(0)}, {SENTINEL.format(1)} … in this order, each once; "
            f"the model knows {len(sentinels)}"
        )
    first, *others = re.split(_GAP.pattern.replace("(", "(?:"), prompt)
    ids = [int(token) for token in tokenizer.encode(first)]
    for sentinel, text in zip(sentinels, others, strict=False):
        ids += [sentinel, *map(int, tokenizer.encode(text))]
    return [*ids, tokenizer.eos_id]
