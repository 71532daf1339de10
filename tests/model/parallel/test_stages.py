"""How blocks are shared out over stages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.config import ModelConfig
from model.parallel.stages import blocks_of_stages


@given(st.integers(1, 40), st.integers(2, 12), st.integers(1, 200_000))
def test_every_stage_has_blocks_and_every_block_a_stage(layers: int, stages: int, vocabulary: int) -> None:
    layers = max(layers, stages)
    found = blocks_of_stages(ModelConfig(layers=layers, width=32, heads=4, context=16), vocabulary, stages)
    assert len(found) == stages
    assert [block for blocks in found for block in blocks] == list(range(layers))
    assert all(found)
    assert max(map(len, found[:-1])) - min(map(len, found[:-1])) <= 1


def test_the_output_layer_counts() -> None:
    shape = ModelConfig(layers=8, width=64, heads=4, context=16)
    block = shape.hidden_parameters // 8
    assert [len(blocks) for blocks in blocks_of_stages(shape, 2, 2)] == [4, 4]
    assert [len(blocks) for blocks in blocks_of_stages(shape, 4 * block // 64, 2)] == [6, 2]
    assert [len(blocks) for blocks in blocks_of_stages(shape, 100 * block // 64, 2)] == [7, 1]
