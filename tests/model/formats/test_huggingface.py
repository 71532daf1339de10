"""Hugging Face folders opened and written, with ``transformers`` as the reference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import ModelConfig
from model.formats import huggingface
from model.inference.generate import Writer
from model.inference.sampling import Sampling
from model.network.transformer import Transformer
from storage.errors import UserError
from storage.identity import digest_of_file
from tests.helpers import SHARED

STORIES = SHARED / "models" / "stories260K-hf"
VOCABULARY = 96
SHAPES = {
    "tied": ModelConfig(layers=2, width=32, heads=4, context=64),
    "grouped, untied": ModelConfig(
        layers=2, width=32, heads=4, kv_heads=2, feed_forward=40, context=64, tied_embeddings=False, norm_eps=1e-6
    ),
    "wide heads, other angles": ModelConfig(layers=1, width=24, heads=2, head_width=16, context=64, rope_theta=500.0),
}


class Specials:
    """What ``Writer.tokens`` needs of a tokenizer."""

    bos_id, eos_id = 1, 2


def made_network(shape: ModelConfig) -> Transformer:
    network = Transformer(shape, VOCABULARY)
    network.initialise(seed=1)
    with torch.no_grad():  # gains that are not one, so that their places are tested too
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return network.eval()


def written(network: Transformer, folder: Path) -> Path:
    huggingface.write(folder, network.shape, VOCABULARY, network.state_dict(), bos=1, eos=2, pad=None)
    return folder


def random_tokens() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (3, 50), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder that ``transformers`` wrote."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_transformers_opens_what_is_written_with_the_same_logits(shape, tmp_path):
    from transformers import AutoModelForCausalLM

    network = made_network(shape)
    theirs = AutoModelForCausalLM.from_pretrained(written(network, tmp_path), dtype=torch.float32)
    with torch.no_grad():
        difference = (network(random_tokens()) - theirs(random_tokens()).logits).abs().max()
    assert difference < 1e-4
    assert theirs.generation_config.eos_token_id == 2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_written_and_loaded_is_the_same_network_in_the_same_bytes(shape, tmp_path):
    network = made_network(shape)
    loaded = huggingface.load(written(network, tmp_path / "once"))
    written(loaded, tmp_path / "twice")
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        assert digest_of_file(tmp_path / "once" / name) == digest_of_file(tmp_path / "twice" / name)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == shape.tied_embeddings
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_folder_of_transformers_gives_its_logits(llama):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    with torch.no_grad():
        difference = (huggingface.load(llama)(random_tokens()) - theirs(random_tokens()).logits).abs().max()
    assert difference < 1e-4


def test_weights_in_several_files_and_in_half_precision(llama, tmp_path):
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    (tmp_path / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: weights[name] for name in held}, tmp_path / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    network = huggingface.load(tmp_path)
    assert all(torch.equal(network.state_dict()[name], weights[name].float()) for name in names)
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(UserError, match=r"names b\.safetensors, which is not there"):
        huggingface.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "lacks weight transformer"),
        ({"attention_bias": True}, "lacks weight model.layers.0.self_attn.k_proj.bias"),
        ({"num_hidden_layers": 3}, "lacks weight model.layers.2"),
        ({"num_hidden_layers": 1}, "has the unknown weight model.layers.1"),
        ({"vocab_size": 97}, r"has shape \(96, 32\); config.json asks for \(97, 32\)"),
    ],
)
def test_what_cannot_be_represented_is_refused_in_one_line(llama, tmp_path, change, message):
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, **change}))
    with pytest.raises(UserError, match=message) as caught:
        huggingface.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value) or str(tmp_path) in str(caught.value)


def test_folders_that_are_no_models_are_refused(llama, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        huggingface.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        huggingface.load(tmp_path)
    shutil.copyfile(llama / "config.json", tmp_path / "config.json")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(UserError, match="convert them to safetensors"):
        huggingface.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        huggingface.load(tmp_path)


@pytest.mark.skipif(not STORIES.is_dir(), reason=f"no real model at {STORIES}")
def test_a_real_llama_gives_its_recorded_logits_and_continuation():
    golden = json.loads((STORIES / "golden.json").read_text())
    network = huggingface.load(STORIES)
    first = torch.tensor([golden["greedy_ids"][:64]])
    with torch.no_grad():
        logits_TV = network(first)[0]
    for token, expected in golden["logits_first64_last_position_top10"]:
        assert logits_TV[-1, token].item() == pytest.approx(expected, abs=1e-4)
    loss = torch.nn.functional.cross_entropy(logits_TV[:-1], first[0, 1:])
    assert loss.item() == pytest.approx(golden["mean_nll_first64"], abs=1e-5)
    prompt = golden["prompt_ids"]
    greedy = Sampling(max_tokens=len(golden["greedy_ids"]) - len(prompt), temperature=0)
    assert prompt + list(Writer(network, Specials()).tokens(prompt, greedy)) == golden["greedy_ids"]
