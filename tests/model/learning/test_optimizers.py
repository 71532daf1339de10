"""Every optimiser against its paper, written out in NumPy at float64; on real processes in ``ranks_optimizers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.config import ModelConfig
from model.learning.optimizer import AVERAGE
from model.learning.optimizer_config import Factors, OptimizerConfig
from model.learning.optimizers import initialise_for_width, make_optimizer, set_learning_rate
from model.network.transformer import Transformer, parameter_kinds
from tests.model.launched import found_by

ROOT = Path(__file__).resolve().parents[3]
SHAPE = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, context=8, tied_embeddings=False)
VOCABULARY, STEPS, RATE, DECAY, EPSILON = 11, 5, 0.02, 0.3, 1e-8
NAMES = ("adamw", "muon", "lion", "lamb")
Array = np.ndarray


def network(shape: ModelConfig = SHAPE) -> Transformer:
    made = Transformer(shape, VOCABULARY)
    made.initialise(3)
    return made


def gradients(made: Transformer, step: int) -> dict[str, Array]:
    random = np.random.default_rng(step)
    return {name: random.normal(size=weight.shape) for name, weight in made.named_parameters()}


def take_steps(made: Transformer, optimizer: Any, count: int) -> None:
    for step in range(count):
        for name, gradient in gradients(made, step).items():
            made.get_parameter(name).grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()


class Written:
    """One weight's update, straight from the papers."""

    def __init__(self, name: str, weight: Array, kind: str, rate: float = RATE) -> None:
        self.name, self.w, self.kind, self.rate = name, weight, kind, rate
        self.m, self.v, self.t = np.zeros_like(weight), np.zeros_like(weight), 0
        self.decay = DECAY if weight.ndim == 2 else 0.0

    def step(self, g: Array) -> None:
        self.t += 1
        if self.name == "lion":
            self._lion(g)
        elif self.name == "muon" and self.kind == "hidden":
            self._muon(g)
        else:
            self._adam(g, {"adamw": 0.95, "muon": 0.95, "lamb": 0.999}[self.name])

    def _lion(self, g: Array) -> None:
        c = 0.9 * self.m + 0.1 * g
        self.w = self.w - self.rate * np.sign(c) - RATE * self.decay * self.w
        self.m = 0.99 * self.m + 0.01 * g

    def _muon(self, g: Array) -> None:
        self.m = 0.95 * self.m + 0.05 * g
        u, s, vt = np.linalg.svd(0.05 * g + 0.95 * self.m, full_matrices=False)
        s = s / np.linalg.norm(s)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        update = (u * s) @ vt
        self.w = self.w - RATE * self.decay * self.w - self.rate * 0.2 * np.sqrt(max(g.shape)) * update

    def _adam(self, g: Array, second: float) -> None:
        self.m = 0.9 * self.m + 0.1 * g
        self.v = second * self.v + (1 - second) * g**2
        r = self.m / (1 - 0.9**self.t) / (np.sqrt(self.v / (1 - second**self.t)) + EPSILON)
        if self.name == "lamb" and self.w.ndim == 2:
            r = r + self.decay * self.w
            self.w = self.w - self.rate * np.linalg.norm(self.w) / np.linalg.norm(r) * r
        else:
            self.w = self.w - RATE * self.decay * self.w - self.rate * r


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_those_of_the_paper(name: str) -> None:
    """With a rate of its own for every kind of weights, whose decay stays the same."""
    made = network()
    own = Factors(matrices=0.75, embeddings=0.5, output=1.5, vectors=2.0)
    config = OptimizerConfig(name=name, learning_rate=RATE, weight_decay=DECAY, epsilon=EPSILON, factors=own)
    factors = {"hidden": 0.75, "embedding": 0.5, "output": 1.5, "vector": 2.0}
    written = {
        key: Written(name, made.get_parameter(key).detach().double().numpy(), kind, RATE * factors[kind])
        for key, kind in parameter_kinds(made).items()
    }
    optimizer = make_optimizer(made, config)
    set_learning_rate(optimizer, RATE)
    take_steps(made, optimizer, STEPS)
    for step in range(STEPS):
        for key, gradient in gradients(made, step).items():
            written[key].step(gradient)
    for key, weight in made.named_parameters():
        np.testing.assert_allclose(weight.detach().numpy(), written[key].w, rtol=2e-4, atol=2e-5, err_msg=key)


def test_every_weight_is_in_one_group() -> None:
    made = network()
    made.model.layers[0].experts = torch.nn.Parameter(torch.zeros(2, 3, 4))  # a weight of three dimensions
    for name in NAMES:
        groups = make_optimizer(made, OptimizerConfig(name=name)).param_groups
        grouped = [id(weight) for group in groups for weight in group["params"]]
        assert sorted(grouped) == sorted(id(weight) for weight in made.parameters())
        assert all(weight.dim() < 2 or group["weight_decay"] for group in groups for weight in group["params"])
        assert not any(weight.dim() == 3 and group["orthogonal"] for group in groups for weight in group["params"])


def test_the_average_is_the_weighted_mean_of_the_weights_after_each_step() -> None:
    made = network()
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # puts hooks around the step of the class that ours goes by
    optimizer = make_optimizer(made, OptimizerConfig(average_tokens=300), batch_tokens=100)
    after = []
    for step in range(STEPS):
        for name, gradient in gradients(made, step).items():
            made.get_parameter(name).grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.left_out = lambda step=step: step == 2  # a step that is left out changes no average either
        optimizer.step()
        if step != 2:
            after.append(made.lm_head.weight.detach().double().numpy().copy())
    parts = np.exp(-100 / 300) ** np.arange(len(after))[::-1]
    wanted = np.tensordot(parts / parts.sum(), np.array(after), 1)
    np.testing.assert_allclose(optimizer.state[made.lm_head.weight][AVERAGE].numpy(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_left_out_changes_nothing(name: str) -> None:
    made = network()
    optimizer = make_optimizer(made, OptimizerConfig(name=name))
    optimizer.left_out = lambda: True
    before = {key: weight.detach().clone() for key, weight in made.named_parameters()}
    take_steps(made, optimizer, 1)
    assert all(torch.equal(weight, before[key]) for key, weight in made.named_parameters())
    assert not optimizer.state


@pytest.mark.parametrize("tied", [True, False])
def test_rates_of_a_wider_network(tied: bool) -> None:
    """Yang et al. 2022, table 8: the rates of matrices, and of what logits come from, fall with the width."""
    wide = ModelConfig(layers=1, width=64, heads=8, context=8, tied_embeddings=tied, positions="learned")
    made = network(wide)
    config = OptimizerConfig(learning_rate=RATE, base_width=16)
    groups = make_optimizer(made, config).param_groups
    rates = {id(weight): group["lr"] / RATE for group in groups for weight in group["params"]}
    found = {name: rates[id(weight)] for name, weight in made.named_parameters()}
    assert found["model.layers.0.mlp.down_proj.weight"] == rates[id(made.lm_head.weight)] == pytest.approx(1 / 4)
    assert found["model.layers.0.input_layernorm.weight"] == found["model.embed_positions.weight"] == 1.0
    assert found["model.embed_tokens.weight"] == (pytest.approx(1 / 4) if tied else 1.0)
    for group in groups:
        assert group["weight_decay"] * group["lr"] in (0.0, pytest.approx(0.1 * RATE))
    muon = make_optimizer(made, OptimizerConfig(name="muon", base_width=16)).param_groups
    assert {group["factor"] for group in muon if group["orthogonal"]} == {0.5}
    before = made.lm_head.weight.detach().clone()
    initialise_for_width(made, config, wide.width)
    torch.testing.assert_close(made.lm_head.weight, before / 2)


WIDTHS = (16, 64, 256)


def sizes_after_steps(name: str, width: int, base_width: int | None, steps: int) -> dict[str, float]:
    """Root mean square of what each block adds to the stream and of the logits, and of how far steps moved them."""
    shape = ModelConfig(layers=2, width=width, heads=width // 8, context=16, feed_forward=2 * width)
    made = Transformer(shape, 32)
    made.initialise(1)
    config = OptimizerConfig(name=name, learning_rate=2.0**-8, weight_decay=0.0, base_width=base_width)
    initialise_for_width(made, config, width)
    optimizer = make_optimizer(made, config)
    set_learning_rate(optimizer, config.learning_rate)
    tokens = torch.from_numpy(np.random.default_rng(1).integers(0, 32, (8, 17)))
    seen: dict[str, torch.Tensor] = {}
    watched = {"attention": made.model.layers[1].self_attn, "feed-forward": made.model.layers[1].mlp}
    for place, module in watched.items():
        module.register_forward_hook(lambda _, __, out, place=place: seen.update({place: out.detach()}))
    first: dict[str, torch.Tensor] = {}
    for step in range(steps + 1):
        logits = made(tokens[:, :-1])
        seen["logits"] = logits.detach()
        if step == 0:
            first = dict(seen)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    moved = {f"{place} moved": seen[place] - first[place] for place in seen}
    return {place: float(value.square().mean().sqrt()) for place, value in (first | moved).items()}


def growth(name: str, base_width: int | None) -> dict[str, float]:
    """How fast these sizes grow with the width: the exponent, by least squares on the logarithms."""
    sizes = [sizes_after_steps(name, width, base_width, 5) for width in WIDTHS]
    return {place: np.polyfit(np.log(WIDTHS), [np.log(one[place]) for one in sizes], 1)[0] for place in sizes[0]}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_step_does_does_not_depend_on_the_width(name: str) -> None:
    """The coordinate check of Yang et al. 2022, appendix D.1: exponents found are 0.12 at most, without it 0.77."""
    assert all(abs(exponent) < 0.3 for exponent in growth(name, WIDTHS[0]).values()), growth(name, WIDTHS[0])


def test_without_a_base_width_the_logits_move_further_in_a_wider_network() -> None:
    assert growth("adamw", None)["logits moved"] > 0.6


@pytest.mark.parametrize(("rule", "rate"), [("linear", 8e-3), ("sqrt", 4e-3)])
def test_the_rate_grows_with_the_batch(rule: str, rate: float) -> None:
    config = OptimizerConfig(learning_rate=2e-3, batch_scaling=rule, base_batch_tokens=1000)
    assert config.for_batch(4000).learning_rate == pytest.approx(rate)
    assert config.for_batch(4000).for_batch(9000).learning_rate == pytest.approx(rate)  # once
    with pytest.raises(ValidationError, match="batch_scaling and base_batch_tokens belong together"):
        OptimizerConfig(batch_scaling=rule)


@pytest.mark.slow
def test_a_single_process_computes_the_same_under_every_zero_stage(tmp_path: Path) -> None:
    """Flat tensors of all weights, though nothing is spread; two processes are in ``test_engine``."""
    found = found_by("tests.model.learning.ranks_optimizers", 1, tmp_path)
    assert set(found) == {f"{name} {stage}" for name in NAMES for stage in (0, 1, 2, 3)}
    for case, errors in found.items():
        assert errors["moved"] > 2e-3, case
        assert max(errors["weights"], errors["averages"]) < 1e-6, (case, errors)
        assert errors["continued"] == 0, (case, errors)
        assert errors["left_out"] == errors["given_back"] == 1, (case, errors)
