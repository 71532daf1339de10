"""Compiled networks learn what those that are not compiled learn, on two processes and on one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.launched import found_by

pytestmark = pytest.mark.slow

WAYS = {
    2: ("zero 1", "zero 2", "offload", "recompute", "dropout", "sequence", "bf16", "lora"),
    1: ("zero 0", "zero 1"),
}
"""By the number of processes."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Both runs have the same folder for what they compile; the first fills it."""
    folder = tmp_path_factory.mktemp("compiled")
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    told = {}
    for processes, ways in WAYS.items():
        place = folder / str(processes)
        place.mkdir()
        asked = ("tests.model.ranks_compiled", processes, place, ",".join(ways))
        told[processes] = found_by(*asked, TORCHDYNAMO_DISABLE="0", **variables)
    return told


@pytest.mark.parametrize(("processes", "way"), [(n, way) for n, ways in WAYS.items() for way in ways])
def test_it_learns_what_a_network_does_that_is_not_compiled(
    found: dict[int, dict[str, Any]], processes: int, way: str
) -> None:
    errors, coarser = found[processes][way], 5e3 if way == "bf16" else 1  # its roundings are
    assert errors["gradient_error"] < 1e-5 * coarser
    assert errors["curve_error"] < 1e-4 * min(coarser, 5e2)
    # AdamW's steps are as large for gradients that are hardly more than rounding, which differs by kind of processor.
    assert errors["weight_error"] < 5e-5 * coarser
    assert errors["compiled_later"] == 0  # neither in training nor for the shapes of an evaluation


@pytest.mark.parametrize("processes", WAYS)
def test_it_continues_bit_for_bit(found: dict[int, dict[str, Any]], processes: int) -> None:
    assert found[processes]["continued 1"] == found[processes]["continued 2"] == 1.0


def test_what_was_compiled_serves_all_blocks_and_later_runs(found: dict[int, dict[str, Any]]) -> None:
    # Before attention and after it, of two blocks each: plain, with dropout, of half the length, bf16, with adapters.
    assert found[2]["graphs"] == 2 * 5
    assert found[2]["compiled"] > 0
    assert found[1]["graphs"] == 2
    assert found[1]["compiled"] == 0
