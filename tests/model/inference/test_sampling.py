"""Drawing tokens, and giving out text in whole characters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.inference.sampling import Sampling, certain_text, choose


def drawn(logits, count=4000, **settings):
    generator = torch.Generator().manual_seed(0)
    sampling = Sampling(**settings)
    return [choose(torch.tensor(logits), sampling, generator) for _ in range(count)]


def test_temperature_zero_takes_the_likeliest():
    assert set(drawn([0.1, 2.0, 1.9], count=20, temperature=0)) == {1}


def test_draws_follow_the_softmax_at_that_temperature():
    logits = [1.0, 0.0, -1.0, 2.0]
    for temperature in (0.5, 1.0, 2.0):
        found = torch.bincount(torch.tensor(drawn(logits, temperature=temperature, top_p=1.0)), minlength=4) / 4000
        expected = torch.softmax(torch.tensor(logits) / temperature, dim=-1)
        assert torch.allclose(found, expected, atol=0.03)


def test_top_k_and_top_p_cut_the_tail():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()
    assert set(drawn(logits, count=400, temperature=1.0, top_p=1.0, top_k=2)) == {0, 1}
    assert set(drawn(logits, count=400, temperature=1.0, top_p=0.6)) == {0, 1}
    assert set(drawn(logits, count=400, temperature=1.0, top_p=0.01)) == {0}
    assert set(drawn(logits, count=400, temperature=1.0, top_p=1.0)) == {0, 1, 2, 3}


def test_the_same_seed_draws_the_same():
    assert drawn([0.0] * 50, count=30) == drawn([0.0] * 50, count=30)


def decode_bytes(ids):
    return bytes(ids).decode("utf-8", "replace")


@given(st.text(max_size=20), st.text(max_size=20).filter(lambda text: "\ufffd" not in text))
def test_pieces_are_whole_characters_and_add_up(prompt, text):
    pieces = list(certain_text(decode_bytes, list(prompt.encode()), list(text.encode())))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


def test_broken_bytes_do_not_stop_the_text_and_an_unfinished_end_is_dropped():
    broken = b"a\xe4\xe4\xbd\xa0b" + "你".encode()[:2]
    assert "".join(certain_text(decode_bytes, [], list(broken))) == "a\ufffd你b"


@pytest.mark.parametrize("count", [10, 50])
def test_endless_broken_bytes_are_given_out(count):
    assert len("".join(certain_text(decode_bytes, [], [0x80] * count))) == count - 3
