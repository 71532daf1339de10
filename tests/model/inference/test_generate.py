"""Writing text with a network."""

from __future__ import annotations

import io

import pytest
import torch

from model.config import ModelConfig
from model.inference.generate import Writer, generate, resolve_device
from model.inference.sampling import Sampling, certain_text
from storage.errors import UserError
from storage.tokenizer import Tokenizer
from tests.made import made_model, made_network, made_tokenizer

SHAPE = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=64)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return made_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def writer(tokenizer):
    network = made_network(SHAPE, tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return Writer(network, tokenizer)


def test_the_cache_changes_nothing(writer):
    ids = [1, 80, 81, 82]
    found = list(writer.tokens(ids, Sampling(max_tokens=40, temperature=0)))
    expected = list(ids)
    with torch.no_grad():
        while len(expected) < len(ids) + 40 and (not expected[4:] or expected[-1] != 2):
            expected.append(int(writer.network(torch.tensor([expected]))[0, -1].argmax()))
    assert found == [token for token in expected[4:] if token != 2]
    assert len(found) > 5


def test_a_window_and_global_tokens_do_not_change_what_the_cache_gives(tokenizer):
    shape = SHAPE.model_copy(update={"window": 5, "global_tokens": 2, "full_layers": (1,)})
    windowed = Writer(made_network(shape, tokenizer.vocab_size), tokenizer)
    ids = [1, 80, 81, 82]
    for token in windowed.tokens(ids, Sampling(max_tokens=40, temperature=0)):
        with torch.no_grad():
            assert token == int(windowed.network(torch.tensor([ids]))[0, -1].argmax())
        ids.append(token)
    assert len(ids) > 20


def test_an_encoder_continues_no_text(tokenizer):
    shape = SHAPE.model_copy(update={"attention": "bidirectional"})
    with pytest.raises(UserError, match="is an encoder"):
        Writer(made_network(shape, tokenizer.vocab_size), tokenizer)


def test_writing_ends_with_the_context_and_with_the_end_token(writer, tokenizer):
    assert len(list(writer.tokens([1, 80], Sampling(max_tokens=1000, temperature=0)))) <= SHAPE.context - 2
    network = made_network(SHAPE, tokenizer.vocab_size)
    with torch.no_grad():  # every position says: the end
        network.model.norm.weight.zero_()
        network.model.norm.weight[0] = 1.0
        network.model.embed_tokens.weight[:, 0] = 1.0
        network.model.embed_tokens.weight[2, 0] = 100.0
    assert list(Writer(network, tokenizer).tokens([1, 80], Sampling(temperature=0))) == []
    with torch.no_grad():
        network.model.embed_tokens.weight[2, 0] = 0.0
        network.model.embed_tokens.weight[80, 0] = 100.0
    assert list(Writer(network, tokenizer).tokens([1, 80], Sampling(temperature=0, max_tokens=3))) == [80] * 3


def test_the_seed_decides_what_is_written(writer):
    texts = [writer.text("abc", Sampling(max_tokens=30, temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert "".join(writer.stream("abc", Sampling(max_tokens=30, temperature=1.0, seed=1))) == texts[0]


def test_a_saved_model_writes_the_same(writer, tokenizer, tmp_path):
    model = made_model(tmp_path, writer.network, tokenizer)
    likeliest = Sampling(max_tokens=20, temperature=0)
    assert Writer.open(model.folder, tokenizer, "cpu").text("go", likeliest) == writer.text("go", likeliest)
    pieces = list(generate(model.folder, "go", max_tokens=20, temperature=0.0))
    assert "".join(pieces) == writer.text("go", likeliest)
    (model.folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.model or tokenizer\.json"):
        generate(model.folder, "go")


def test_a_prompt_that_leaves_no_room_is_refused(writer):
    with pytest.raises(UserError, match="the prompt has 71 tokens; the model's context holds 64: shorten it"):
        writer.text("x" * 70, Sampling())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        resolve_device("cuda")


def test_characters_of_several_byte_pieces_come_out_whole(tmp_path):
    from sentencepiece import SentencePieceTrainer

    made = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat"] * 50),
        model_writer=made,
        vocab_size=290,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(made.getvalue())
    tokenizer = Tokenizer.of_folder(tmp_path)
    text = "the cat 坐在🙂 mat é"
    ids = [int(token) for token in tokenizer.encode(text)]
    pieces = list(certain_text(tokenizer.decode, [], ids))
    assert "".join(pieces) == text
    assert {"坐", "在", "🙂"} <= set(pieces)
    assert "".join(certain_text(tokenizer.decode, ids[:4], ids[4:])) == text[len(tokenizer.decode(ids[:4])) :]
