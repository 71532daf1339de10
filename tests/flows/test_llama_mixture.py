"""The shares of the recipe with the corpus table of the first Llama models."""

from __future__ import annotations

from flows.recipes import SHIPPED
from flows.yaml_tree import load_tree
from model.data.mixture import Schedule

# Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models" (arXiv 2302.13971), table 1.
TABLE = {
    "commoncrawl": 67.0, "c4": 15.0, "github": 4.5, "wikipedia": 4.5, "books": 4.5, "arxiv": 2.5, "stackexchange": 2.0,
}  # fmt: skip


def test_the_shares_are_those_of_the_table() -> None:
    """By the sources that each part comes from: of the tokenizer's sample, and of what training draws."""
    steps = load_tree((SHIPPED / "llama-mixture.yaml").read_text(), "llama-mixture").value["steps"]
    assert steps["tokenizer"]["weights"] == TABLE

    def source_of(step: dict[str, object]) -> str:
        """The name of the one source that a step goes back to."""
        while "sources" not in step:
            step = steps[next(step[name] for name in ("pages", "documents", "shards") if name in step)]
        (source,) = step["sources"]
        return source["name"]

    data = steps["base"]["data"]
    assert {source_of(part): part["weight"] for part in data} == TABLE
    drawn = Schedule([part["weight"] for part in data]).given(2_000)
    assert {source_of(part): rows / 20 for part, rows in zip(data, drawn.tolist(), strict=True)} == TABLE
