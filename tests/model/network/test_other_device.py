"""Training and generation on a GPU that is played (``tests.model.other_device``): the CPU's numbers, and nothing that
is made on the wrong device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from model.config import ModelConfig
from model.data.batches import Batch, Text, TextRows, collate
from model.inference.generate import Writer
from model.inference.sampling import Sampling
from model.learning.objective_config import MaskedConfig, NextTokenConfig, SpansConfig
from model.learning.objectives import Objective, make_objective
from model.learning.optimizer_config import OptimizerConfig
from model.learning.optimizers import make_optimizer
from model.network import lora, packed
from model.network.encoder import PairEncoder
from model.network.transformer import Transformer
from storage.tokenizer import Tokenizer
from tests.made import made_tokenizer
from tests.model.network.test_packed import each_by_itself
from tests.model.other_device import GPU, moved, played

PLAIN: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "context": 192}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"kv_heads": 2, "qk_norm": True, "logit_softcap": 5.0, "tied_embeddings": False},
    "learned": {"positions": "learned", "norm": "layernorm", "activation": "gelu", "biases": "all"},
    "window": {"window": 40, "global_tokens": 3, "full_layers": (1,)},
    "window of all": {"window": 150},
    "yarn": {"rope_scaling": {"kind": "yarn", "factor": 4, "original_context": 48}, "unrotated_layers": (1,)},
    "llama3": {"rope_scaling": {"kind": "llama3", "factor": 4, "original_context": 48}},
    "experts": {"experts": 4},
    "dropout": {"dropout": {"attention": 0.2, "residual": 0.1, "embeddings": 0.1}},
    "dropout in a window": {"window": 40, "global_tokens": 3, "dropout": {"attention": 0.2}},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made_tokenizer(tmp_path_factory.mktemp("tokenizer"), special=["<mask>"])


def batch(vocabulary: int) -> Batch:
    """Rows of one document, of several, and half empty ones."""
    random = np.random.default_rng(2)
    texts = [Text(random.integers(4, vocabulary, length)) for length in (193, 60, 40, 50, 100, 20, 70)]
    rows = TextRows(texts, PLAIN["context"])
    made = collate(rows.read(np.arange(len(rows))), PLAIN["context"])
    return replace(made, labels_B=torch.arange(len(rows)) % 2)


def network(shape: ModelConfig, tokenizer: Tokenizer, pairs: bool = False, adapted: bool = False) -> Transformer:
    made = (PairEncoder if pairs else Transformer)(shape, tokenizer.vocab_size)
    made.initialise(3)
    if adapted:
        lora.inject(made, 4, 8.0, ("q_proj", "down_proj"), 1)
    return made


def step(
    network: Transformer, objective: Objective, batch: Batch, optimizer: str, autocast: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Losses, gradients and weights after a step, on the CPU."""
    update = make_optimizer(network, OptimizerConfig(name=optimizer, average_tokens=10))
    given = objective.prepare(batch).to(next(network.parameters()).device)
    with torch.autocast(given.tokens_BT.device.type, autocast, enabled=autocast is not None):
        terms = objective.losses(network, given)
    torch.stack([term.weight * term.summed for term in terms]).sum().backward()
    found = {f"loss {term.name}": term.recorded.detach().cpu() for term in terms}
    trained = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
    found |= {f"gradient of {name}": weight.grad.cpu() for name, weight in trained if weight.grad is not None}
    update.step()
    return found | {name: weight.detach().cpu() for name, weight in trained}


def compare(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], most: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert type(found[name]) is torch.Tensor
        error = (found[name] - value).norm() / value.norm().clamp(min=1e-3)
        assert float(error) < most, name


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_network_learns_as_on_the_cpu(name: str, tokenizer: Tokenizer) -> None:
    shape = ModelConfig.model_validate(PLAIN | SHAPES[name])
    balance = shape.experts_balance if shape.experts is not None else None
    objective, rows = make_objective(NextTokenConfig(), tokenizer, 1, balance), batch(tokenizer.vocab_size)
    wanted = step(network(shape, tokenizer), objective, rows, "adamw")
    with played():
        found = step(moved(network(shape, tokenizer)), objective, rows, "adamw")
    # Biases of keys have no gradient but rounding, of which AdamW makes a whole step.
    compare(*({name: x for name, x in one.items() if "k_proj.bias" not in name} for one in (found, wanted)), 2e-3)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("config", [MaskedConfig(next_sentence=True), MaskedConfig(z_loss=1e-4, label_smoothing=0.1)])
def test_encoders_learn_as_on_the_cpu(config: MaskedConfig, pairs: bool, tokenizer: Tokenizer) -> None:
    shape = ModelConfig.model_validate(PLAIN | {"attention": "bidirectional"})
    config = config.model_copy(update={"next_sentence": pairs})
    objective, rows = make_objective(config, tokenizer, 1), batch(tokenizer.vocab_size)
    wanted = step(network(shape, tokenizer, pairs), objective, rows, "adamw")
    with played():
        found = step(moved(network(shape, tokenizer, pairs)), objective, rows, "adamw")
    compare(found, wanted, 2e-3)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "lion", "lamb"])
def test_every_optimizer_updates_as_on_the_cpu(optimizer: str, adapted: bool, tokenizer: Tokenizer) -> None:
    shape = ModelConfig.model_validate(PLAIN)
    objective, rows = make_objective(SpansConfig(z_loss=1e-4), tokenizer, 1), batch(tokenizer.vocab_size)
    wanted = step(network(shape, tokenizer, adapted=adapted), objective, rows, optimizer)
    with played():
        found = step(moved(network(shape, tokenizer, adapted=adapted)), objective, rows, optimizer)
    compare(found, wanted, 2e-3)


def test_muon_makes_matrices_orthogonal_in_bfloat16(tokenizer: Tokenizer) -> None:
    shape = ModelConfig.model_validate(PLAIN)
    objective, rows = make_objective(NextTokenConfig(), tokenizer, 1), batch(tokenizer.vocab_size)
    wanted = step(network(shape, tokenizer), objective, rows, "muon")
    with played() as products:
        found = step(moved(network(shape, tokenizer)), objective, rows, "muon")
    assert ("bmm", torch.bfloat16) in products
    compare(found, wanted, 2e-2)


@pytest.mark.parametrize("config", [NextTokenConfig(), NextTokenConfig(z_loss=1e-4)])
@pytest.mark.parametrize("name", ["llama", "window", "experts"])
def test_bfloat16_and_packed_documents_take_a_gpus_way(
    name: str, config: NextTokenConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[torch.dtype] = []

    def kernel(*given: Any) -> torch.Tensor:
        kinds.append(given[0].dtype)
        return each_by_itself(*given)

    monkeypatch.setattr(packed, "flash", kernel)
    shape = ModelConfig.model_validate(PLAIN | SHAPES[name])
    objective, rows = make_objective(config, tokenizer, 1), batch(tokenizer.vocab_size)
    wanted = step(network(shape, tokenizer), objective, rows, "adamw")
    with played() as products:
        found = step(moved(network(shape, tokenizer)), objective, rows, "adamw", torch.bfloat16)
    assert set(kinds) == {torch.bfloat16}
    # No product with weights is left to float32, forward or backward (some of attention are here).
    assert {kind for name, kind in products if name != "bmm"} == {torch.bfloat16}
    assert float(found["loss loss"]) == pytest.approx(float(wanted["loss loss"]), rel=1e-2)
    read = "gradient of lm_head.weight" if "gradient of lm_head.weight" in wanted else "gradient of model.norm.weight"
    compare({read: found[read]}, {read: wanted[read]}, 5e-2)


@pytest.mark.parametrize("name", ["llama", "learned", "window", "experts"])
def test_text_is_generated_as_on_the_cpu(name: str, tokenizer: Tokenizer) -> None:
    shape, prompt = ModelConfig.model_validate(PLAIN | SHAPES[name]), [1, *range(5, 65)]
    for sampling in (Sampling(40, temperature=0), Sampling(40, temperature=1.5, top_k=20, seed=4)):
        wanted = list(Writer(network(shape, tokenizer), tokenizer).tokens(prompt, sampling))
        with played():
            found = list(Writer(moved(network(shape, tokenizer)), tokenizer).tokens(prompt, sampling))
        assert found == wanted


def test_what_is_played_does_not_mix_with_the_cpu() -> None:
    with played():
        there = torch.ones(2, 3, device=GPU)
        assert (there.device, there.is_cuda) == (GPU, True)
        for mixed in (lambda: there + torch.ones(3), lambda: there[:, :2] @ torch.ones(2, 1), lambda: there.numpy()):
            with pytest.raises((RuntimeError, TypeError)):
                mixed()
        assert (there * torch.tensor(2.0))[torch.tensor([0])].tolist() == [[2.0] * 3]  # as a GPU does
