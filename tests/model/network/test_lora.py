"""Adapters: put in, saved, opened by PEFT, merged."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from model.config import ModelConfig
from model.formats import adapters, huggingface
from model.network import lora
from model.network.transformer import Transformer
from storage.errors import UserError
from storage.identity import digest_of_file

VOCABULARY = 64
SHAPE = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=32)
TARGETS = ("q_proj", "v_proj", "down_proj")


def made_base() -> Transformer:
    network = Transformer(SHAPE, VOCABULARY)
    network.initialise(seed=3)
    return network.eval()


def adapted(seed: int = 5) -> Transformer:
    """A network with an adapter that is no longer the zero that it begins as."""
    network = made_base()
    lora.inject(network, rank=4, alpha=6.0, targets=TARGETS, seed=seed)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.2
    return network


def logits(network) -> torch.Tensor:
    tokens = torch.randint(0, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = network(tokens)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An adapter as it is saved, with its base."""
    path = tmp_path_factory.mktemp("adapter")
    adapters.save(path, adapters.adapter_state(adapted().state_dict()), rank=4, alpha=6.0, targets=TARGETS)
    huggingface.write(path / "base", SHAPE, VOCABULARY, made_base().state_dict(), bos=1, eos=2, pad=3)
    return path


def test_an_adapter_begins_as_nothing_and_only_it_is_trained():
    network = made_base()
    before = logits(network)
    lora.inject(network, rank=4, alpha=6.0, targets=TARGETS, seed=5)
    assert torch.equal(logits(network), before)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert len(trained) == SHAPE.layers * len(TARGETS) * 2
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)


def test_first_values_follow_from_the_seed_alone():
    def first_values(seed):
        network = made_base()
        torch.rand(3)
        state = torch.get_rng_state()
        lora.inject(network, rank=4, alpha=6.0, targets=TARGETS, seed=seed)
        assert torch.equal(torch.get_rng_state(), state), "the caller's random state was touched"
        return adapters.adapter_state(network.state_dict())

    one, two, other = first_values(5), first_values(5), first_values(6)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_peft_opens_what_is_saved_with_our_logits(folder):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, folder).eval()
    assert (logits(theirs) - logits(adapted())).abs().max() < 1e-4
    assert (logits(theirs) - logits(made_base())).abs().max() > 1e-2


def test_loading_an_adapter_folder_is_the_base_with_the_adapter(folder):
    assert (logits(huggingface.load(folder)) - logits(adapted())).abs().max() < 1e-5


def test_the_same_adapter_is_the_same_bytes(folder, tmp_path):
    adapters.save(
        tmp_path, adapters.adapter_state(adapted().state_dict()), rank=4, alpha=6.0, targets=reversed(TARGETS)
    )
    for name in (adapters.CONFIG, adapters.WEIGHTS):
        assert digest_of_file(tmp_path / name) == digest_of_file(folder / name)


@pytest.mark.parametrize("target", ["query", "lm_head"])
def test_a_target_that_no_adapter_can_go_on_is_refused(target):
    names = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj$"
    with pytest.raises(UserError, match=rf"no linear layer '{target}'; it has {names}"):
        lora.inject(made_base(), rank=4, alpha=6.0, targets=[target], seed=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
    ],
)
def test_adapters_that_do_more_than_plain_lora_are_refused(folder, tmp_path, change, message):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    described = json.loads((tmp_path / adapters.CONFIG).read_text())
    (tmp_path / adapters.CONFIG).write_text(json.dumps({**described, **change}))
    with pytest.raises(UserError, match=message):
        huggingface.load(tmp_path)


def test_an_adapter_for_another_model_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other = ModelConfig(layers=1, width=32, heads=4, kv_heads=2, context=32)
    network = Transformer(other, VOCABULARY)
    huggingface.write(tmp_path / "base", other, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=3)
    with pytest.raises(UserError, match=r"adapts model\.layers\.1\.\S+, which the base model lacks"):
        huggingface.load(tmp_path)


def test_experts_get_no_adapters():
    network = Transformer(SHAPE.model_copy(update={"experts": 3}), VOCABULARY)
    with pytest.raises(UserError, match="'down_proj' is of the experts, which PEFT's form has no adapters for"):
        lora.inject(network, rank=4, alpha=6.0, targets=TARGETS, seed=5)
