"""Combinations that are refused while a recipe is read."""

from __future__ import annotations

from typing import Any

import pytest

from model.config import ModelConfig
from model.planning.fit import check
from tasks.task import Resources

SHAPE = ModelConfig(layers=1, width=24, heads=6, context=64)
MIXED = SHAPE.model_copy(update={"experts": 4})
DEEP = SHAPE.model_copy(update={"layers": 4})


@pytest.mark.parametrize(
    ("resources", "settings", "said"),
    [
        ({"zero_stage": 0}, {"precision": "fp16"}, "use zero_stage 1 or more, or bf16"),
        ({"device": "cpu"}, {"precision": "fp8"}, "precision fp8 needs a GPU"),
        ({}, {"precision": "fp8"}, "width is 24: make it a multiple"),
        ({}, {"precision": "fp8", "shape": None, "context": 24}, "context of a process is 24"),
        ({"processes": 2, "tensor_processes": 2}, {"precision": "fp8"}, "use bf16 with tensor_processes"),
        ({}, {"precision": "fp8", "adapted": ["q_proj"]}, "use bf16 with adapters"),
        ({"offload": "cpu", "zero_stage": 0}, {}, "offload: cpu is ZeRO's"),
        ({"offload": "cpu"}, {"optimizer": "muon"}, "use adamw"),
        ({"offload": "nvme"}, {"optimizer": "lamb"}, "offload: nvme leaves pieces on the host"),
        ({"offload": "nvme", "zero_stage": 0}, {}, "offload: nvme is ZeRO's"),
        ({"offload": "cpu", "offload_folder": "f"}, {}, "offload_folder is for offload nvme"),
        ({"offload": "nvme", "offload_folder": "f"}, {}, "name it from the root"),
        ({"processes": 3, "sequence_processes": 2}, {}, "processes 3 is not a multiple"),
        ({"processes": 3, "sequence_processes": 3}, {}, "context 64 is not a multiple of sequence_processes 3"),
        ({"processes": 4, "sequence_processes": 4}, {}, "heads 6 is not a multiple of sequence_processes 4"),
        ({"processes": 2, "sequence_processes": 2}, {"sentence_pairs": True}, "next_sentence"),
        ({"processes": 3, "tensor_processes": 2}, {}, "processes 3 is not a multiple"),
        ({"processes": 4, "tensor_processes": 4}, {}, "heads 6 is not a multiple of tensor_processes 4"),
        ({"processes": 2, "tensor_processes": 2, "sequence_processes": 2}, {}, "2 is not a multiple of sequence_pro"),
        (
            {"processes": 4, "tensor_processes": 2, "sequence_processes": 2},
            {},
            "heads 6 .* 2 x tensor_processes 2",
        ),
        ({"processes": 2, "tensor_processes": 2}, {"adapted": ["lm_head"]}, "leave lm_head out"),
        ({"processes": 3, "pipeline_processes": 2}, {}, "processes 3 is not a multiple of pipeline_processes 2"),
        ({"processes": 2, "pipeline_processes": 2}, {}, "pipeline_processes 2 is more than the model's layers 1"),
        ({"processes": 2, "pipeline_processes": 2, "zero_stage": 2}, {"shape": DEEP}, "use zero_stage 0 or 1"),
        ({"processes": 2, "pipeline_processes": 2, "zero_stage": 3}, {"shape": None}, "use zero_stage 0 or 1"),
        ({"processes": 2, "pipeline_processes": 2, "offload": "cpu"}, {"shape": DEEP}, "does not go with pipeline"),
        (
            {"processes": 4, "pipeline_processes": 2, "sequence_processes": 2},
            {"shape": DEEP},
            "sequence_processes and pipeline_processes do not go together: leave one",
        ),
        (
            {"processes": 4, "pipeline_processes": 2, "tensor_processes": 2},
            {"shape": DEEP},
            "tensor_processes and pipeline_processes do not go together: leave one",
        ),
        ({"processes": 2, "tensor_processes": 2}, {"shape": MIXED}, "tensor_processes: not for a model with experts"),
        ({"processes": 2, "pipeline_processes": 2}, {"shape": MIXED}, "pipeline_processes: not for a model with exp"),
        ({"processes": 2, "sequence_processes": 2}, {"shape": MIXED}, "sequence_processes: not for a model with exp"),
        ({"compile": True}, {"shape": MIXED}, "compile: not for a model with experts"),
        ({}, {"shape": MIXED, "sentence_pairs": True}, "next_sentence: not for a model with experts"),
        ({"compile": True}, {"precision": "fp8", "shape": None, "context": None}, "go with precision fp8"),
        ({"compile": True, "zero_stage": 3}, {}, "zero_stage 3 gathers weights as they are used"),
        ({"compile": True, "processes": 2, "tensor_processes": 2}, {}, "compile does not go with tensor_processes"),
        (
            {"compile": True, "processes": 2, "pipeline_processes": 2},
            {"shape": DEEP},
            "compile does not go with pipeline_processes",
        ),
        ({"processes": 3, "hosts": {"launcher": "join", "count": 2, "folder": "f", "address": "a"}}, {}, "by 2 hosts"),
    ],
)
def test_what_cannot_work_is_refused_by_name(resources: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    given = {"precision": "fp32", "optimizer": "adamw", "shape": SHAPE, "context": SHAPE.context, **settings}
    with pytest.raises(ValueError, match=said):
        check(Resources(**resources), **given)


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="there is no no-such-compiler here"):
        check(Resources(compile=True), "fp32", "adamw", SHAPE, 64)


def test_dropout_is_not_shared_out() -> None:
    shape = SHAPE.model_copy(update={"dropout": SHAPE.dropout.model_copy(update={"residual": 0.1})})
    with pytest.raises(ValueError, match="dropout"):
        check(Resources(processes=2, sequence_processes=2), "fp32", "adamw", shape, shape.context)


def test_keys_and_values_are_not_cut_finer_than_heads() -> None:
    shape = SHAPE.model_copy(update={"kv_heads": 3})
    with pytest.raises(ValueError, match="kv_heads 3 is not a multiple of tensor_processes 2"):
        check(Resources(processes=2, tensor_processes=2), "fp32", "adamw", shape, shape.context)


def test_what_works_is_let_through() -> None:
    check(Resources(processes=4, sequence_processes=2, offload="cpu", recompute=True), "bf16", "adamw", SHAPE, 64)
    check(Resources(processes=4, tensor_processes=2, offload="cpu", recompute=True), "fp16", "lion", SHAPE, 64)
    compiled = Resources(processes=4, sequence_processes=2, offload="cpu", compile=True, zero_stage=2)
    check(compiled, "bf16", "lion", SHAPE, 64)
    pipeline = Resources(processes=4, pipeline_processes=2, recompute=True)
    check(pipeline, "fp16", "muon", DEEP, 64, sentence_pairs=True)
