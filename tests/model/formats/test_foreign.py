"""Causal models of other families, run as transformers runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, MambaConfig

from model.data.batches import Text, TextRows, collate
from model.formats import adapters, foreign, huggingface
from model.formats.foreign import Foreign
from model.inference.generate import Writer
from model.inference.sampling import Sampling
from model.inference.scoring import predicted_tokens, summed_loss
from model.network import lora
from model.network.cross_entropy import Softening
from model.network.transformer import parameter_kinds
from storage.errors import UserError
from tests.made import made_tokenizer

VOCABULARY = 260
CONFIGS: dict[str, Any] = {
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=32, n_layer=2, n_head=4),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=VOCABULARY, max_position_embeddings=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    ),
    "mamba": MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
}  # fmt: skip


@pytest.fixture(scope="module", params=["gpt2", "gpt_neox"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a random model."""
    return saved(request.param, tmp_path_factory.mktemp(request.param))


def saved(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[name]).save_pretrained(folder)
    return folder


def texts() -> list[Text]:
    random = np.random.default_rng(1)
    return [Text(random.integers(4, VOCABULARY, size), first=2) for size in (33, 9, 20, 3, 17, 30, 5, 12)]


@torch.no_grad()
def wanted_loss(folder: Path) -> float:
    """Their own loss of each text alone."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    total = 0.0
    for text in texts():
        tokens = torch.from_numpy(text.tokens)
        labels = tokens.clone()
        labels[: text.first] = -100
        total += float(
            model(input_ids=tokens[None, :-1]).logits[0].log_softmax(1).gather(1, tokens[1:, None])[1:].sum()
        )
        theirs = float(model(input_ids=tokens[None], labels=labels[None]).loss) if len(tokens) <= 32 else None
        if theirs is not None:
            mean = torch.nn.functional.cross_entropy(
                model(input_ids=tokens[None]).logits[0, 1:-1], tokens[2:], reduction="mean"
            )
            assert theirs == pytest.approx(float(mean), rel=1e-5)
    return -total


def test_packed_documents_have_the_loss_that_transformers_gives_each_alone(folder: Path) -> None:
    network = huggingface.load(folder)
    assert isinstance(network, Foreign)
    assert network.shape.context == 32
    assert network.shape.parameters >= sum(weight.numel() for weight in network.parameters())
    assert summed_loss(network, texts()) == pytest.approx(wanted_loss(folder), rel=1e-5)
    assert predicted_tokens(texts()) == sum(len(text.tokens) - 2 for text in texts())


def test_gradients_are_those_of_the_sum(folder: Path) -> None:
    network = huggingface.load(folder)
    rows = TextRows(texts(), 32)
    batch = collate(rows.read(np.arange(len(rows))), 32)
    inputs = (batch.tokens_BT, batch.positions_BT, batch.documents_BT, batch.targets_BT)
    network(*inputs).backward()
    softened, plain = network(*inputs, softening=Softening(0.1, 1e-3))
    assert plain.item() == pytest.approx(network(*inputs).item(), rel=1e-6)
    assert softened.item() > plain.item()
    found = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    total = torch.zeros(())
    for text in texts():
        tokens = torch.from_numpy(text.tokens)
        logits = network.inner(input_ids=tokens[None, :-1]).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits[1:], tokens[2:], reduction="sum")
    total.backward()
    for name, weight in network.named_parameters():
        assert torch.allclose(found[name], weight.grad, atol=2e-4), name
    kinds = parameter_kinds(network)
    assert [name for name, kind in kinds.items() if kind == "output"] in ([], ["inner.lm_head.weight"])
    assert "hidden" in kinds.values()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_likeliest_tokens_are_those_that_transformers_generates(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path / "model")
    writer = Writer(huggingface.load(folder), made_tokenizer(tmp_path / "tokenizer"))
    prompt = [5, 77, 203, 9]
    ours = list(writer.tokens(prompt, Sampling(max_tokens=12, temperature=0)))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 4, dtype=torch.long), max_new_tokens=12, do_sample=False,
        eos_token_id=2, pad_token_id=3,
    )[0, 4:].tolist()  # fmt: skip
    assert ours == theirs[: len(ours)]
    assert len(ours) == 12 or theirs[len(ours)] == 2


def test_trained_weights_are_written_as_they_came(folder: Path, tmp_path: Path) -> None:
    network = huggingface.load(folder)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01)
    foreign.write(tmp_path / "out", folder, dict(network.named_parameters()))
    assert (tmp_path / "out" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    again, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokens_BT = torch.randint(0, VOCABULARY, (2, 16))
    assert torch.equal(again.eval()(tokens_BT).logits, network(tokens_BT))


def test_adapters_go_on_all_linear_layers_and_merge(folder: Path, tmp_path: Path) -> None:
    targets = foreign.linear_layers(folder)
    assert targets in (("c_attn", "c_fc", "c_proj"), ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"))
    network = huggingface.load(folder)
    lora.inject(network, 4, 8.0, targets, seed=1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    found = adapters.adapter_state(dict(network.named_parameters()))
    adapters.save(tmp_path, found, 4, 8.0, targets)
    (tmp_path / "base").symlink_to(folder)
    tokens_BT = torch.randint(0, VOCABULARY, (2, 16))
    assert torch.allclose(huggingface.load(tmp_path)(tokens_BT), network(tokens_BT), atol=1e-5)
    from peft import PeftModel

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path).eval()
    assert torch.allclose(theirs(tokens_BT).logits, network(tokens_BT), atol=1e-5)


def test_what_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "perpetuum"}')
    with pytest.raises(UserError, match="transformers does not know the model"):
        huggingface.load(tmp_path)
