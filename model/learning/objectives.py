"""What is learnt: an objective turns a batch into losses, and knows neither the loop nor the engine.

B sequences   T positions   V vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.data.batches import Batch
from model.data.order import keyed
from model.data.words import Words
from model.learning.objective_config import AnyObjective, MaskedConfig, NextTokenConfig, SpansConfig
from model.network.cross_entropy import Softening
from model.network.sight import PADDING
from model.network.transformer import IGNORED
from storage.errors import UserError
from storage.tokenizer import Tokenizer


@dataclass(frozen=True)
class Loss:
    """One term: ``weight`` x summed loss / how many predictions the whole global batch has of it."""

    name: str
    weight: float
    summed: Tensor
    """float32 scalar, summed over the micro-batch."""
    plain: Tensor | None = None
    """What is recorded instead of ``summed``, where that has more in it than the loss itself."""

    @property
    def recorded(self) -> Tensor:
        return self.summed if self.plain is None else self.plain


class Objective(Protocol):
    """A way to learn from batches."""

    def prepare(self, batch: Batch) -> Batch:
        """The batch with what is hidden or changed of it; anything drawn at random is so by ``batch.rows_B``."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """Per term, how many predictions the batch has of it; known without the network."""

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        """The terms, differentiable; as many as ``counts`` has, in its order."""


class NextToken:
    """Cross-entropy of the next token, in nats, where the batch has a target.

    Serves pretraining, the filling of gaps and supervised tuning alike: what does not count is masked in the targets.
    """

    def __init__(self, config: NextTokenConfig | SpansConfig, balance: float | None = None) -> None:
        """``balance``: see ``make_objective``."""
        self._softening, self._balance = _softening(config), balance

    def prepare(self, batch: Batch) -> Batch:
        return batch

    def counts(self, batch: Batch) -> dict[str, int]:
        return _counts_of_tokens(batch, self._balance)

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        return _losses_of_tokens(network, batch, self._softening, self._balance)


def _softening(config: AnyObjective) -> Softening | None:
    return None if config.is_plain else Softening(config.label_smoothing, config.z_loss)


def _inputs(batch: Batch) -> tuple[Tensor, ...]:
    return batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT


def _loss_of_tokens(made: Tensor) -> Loss:
    """From what a network gives: the sum, or what is to be made small and the plain sum."""
    return Loss("loss", 1.0, made) if made.dim() == 0 else Loss("loss", 1.0, made[0], plain=made[1])


def _counts_of_tokens(batch: Batch, balance: float | None) -> dict[str, int]:
    terms = ["loss"] if balance is None else ["loss", BALANCE]
    return dict.fromkeys(terms, batch.predicted)


def _losses_of_tokens(
    network: nn.Module, batch: Batch, softening: Softening | None, balance: float | None
) -> list[Loss]:
    """The cross-entropy, and with ``balance`` how unevenly experts are used."""
    given = {} if balance is None else {"balance": True}
    made = network(*_inputs(batch), rows_B=batch.rows_B, softening=softening, **given)
    if balance is None:
        return [_loss_of_tokens(made)]
    return [_loss_of_tokens(made[:-1].squeeze(0)), Loss(BALANCE, balance, made[-1])]


class Masked:
    """Cross-entropy of hidden tokens, in nats, and on request of whether a segment follows another (see ``pairs``).

    Devlin et al. 2019, section 3.1, but that every token (or word) is chosen independently. What is
    chosen, and what is shown in its place, follows from the seed and from where a token stands in
    the endless order of the data.
    """

    def __init__(self, config: MaskedConfig, tokenizer: Tokenizer, seed: int, balance: float | None = None) -> None:
        """``balance``: see ``make_objective``. Raises UserError for a tokenizer without a mask token."""
        if tokenizer.mask_id is None:
            raise UserError(NO_MASK.format("its tokenizer"))
        self._config, self._seed, self._mask = config, seed, tokenizer.mask_id
        self._softening, self._balance = _softening(config), balance
        self._special_V = np.zeros(tokenizer.vocab_size, np.bool_)
        self._special_V[[*tokenizer.special_ids, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id]] = True
        self._ordinary = np.flatnonzero(~self._special_V)
        self._words = Words.of(tokenizer.pieces, tokenizer.special_ids) if config.whole_words else None

    def prepare(self, batch: Batch) -> Batch:
        config = self._config
        tokens_BT, documents_BT = batch.tokens_BT.numpy(), batch.documents_BT.numpy()
        chance_BT = self._uniform(batch, 0)
        if self._words is not None:  # a word's first piece decides for all of it
            starts_BT = self._words.starts(tokens_BT, documents_BT)
            columns_T = np.arange(tokens_BT.shape[1])
            first_BT = np.maximum.accumulate(np.where(starts_BT, columns_T, 0), 1)
            chance_BT = np.take_along_axis(chance_BT, first_BT, 1)
        can_be_BT = (documents_BT != PADDING) & ~self._special_V[tokens_BT]
        chosen_BT = can_be_BT & (chance_BT < config.fraction)
        fate_BT = self._uniform(batch, 1)
        any_BT = self._ordinary[(self._uniform(batch, 2) * len(self._ordinary)).astype(np.int64)]
        seen_BT = np.where(
            fate_BT < config.hidden,
            self._mask,
            np.where(fate_BT < config.hidden + config.replaced, any_BT, tokens_BT),
        )
        return replace(
            batch,
            tokens_BT=torch.from_numpy(np.where(chosen_BT, seen_BT, tokens_BT)),
            targets_BT=torch.from_numpy(np.where(chosen_BT, tokens_BT, IGNORED)),
        )

    def counts(self, batch: Batch) -> dict[str, int]:
        counts = _counts_of_tokens(batch, self._balance)
        if self._config.next_sentence:
            counts["next_sentence"] = int((batch.labels_B != IGNORED).sum())
        return counts

    def losses(self, network: nn.Module, batch: Batch) -> list[Loss]:
        if not self._config.next_sentence:
            return _losses_of_tokens(network, batch, self._softening, self._balance)
        made = network(*_inputs(batch), rows_B=batch.rows_B, softening=self._softening, labels_B=batch.labels_B)
        of_tokens = made[:-1] if len(made) > 2 else made[0]
        return [_loss_of_tokens(of_tokens), Loss("next_sentence", 1.0, made[-1])]

    def _uniform(self, batch: Batch, draw: int) -> npt.NDArray[np.float64]:
        """A number in [0, 1) for every position, by its row in the order of the data and its column."""
        columns = batch.tokens_BT.shape[1]
        places_BT = batch.rows_B.numpy()[:, None] * columns + np.arange(columns)
        return (keyed(places_BT, self._seed * 4 + draw) >> np.uint64(11)).astype(np.float64) * 2.0**-53


BALANCE = "expert_balance"
"""The term of how unevenly experts are used: 1 where evenly."""
NO_MASK = (
    "objective masked: {} has no mask token; train one with special_tokens: ['<mask>'], or name a folder whose "
    "tokenizer_config.json says which its mask_token is"
)
"""What is wrong, with a place for what lacks it."""


def make_objective(config: AnyObjective, tokenizer: Tokenizer, seed: int, balance: float | None = None) -> Objective:
    """The objective of a request. ``balance``, for a network of experts: the weight of their even use.

    Raises UserError for a tokenizer that it cannot work with.
    """
    if isinstance(config, MaskedConfig):
        return Masked(config, tokenizer, seed, balance)
    return NextToken(config, balance)
