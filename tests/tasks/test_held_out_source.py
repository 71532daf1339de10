"""A source with ``split: validation`` is held out whole, and of copies the ones trained on go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storage.corpus import Documents, derived_id, document_id, is_validation
from storage.shards import Shards
from tasks.clean_html import CleanHtml
from tasks.collect import Collect
from tasks.dedup import Dedup
from tasks.drop_passages import DropPassages
from tasks.shard import Shard
from tests.helpers import run_task
from tests.made import made_tokenizer

COMMON = "The tide comes in twice a day, and it leaves twice a day, as it did when the harbour was built."
PAGES = {
    "web/copy.txt": f"{COMMON}\n\nRead on the quay, in the first year.",
    "web/other.txt": "Seven boats went out before the sun was up and none of them came back empty that day.",
    "web/third.txt": "A letter that nobody had asked for lay upon the table until the end of that long winter.",
    "own/kept.txt": f"{COMMON}\n\nRead on the quay, in the first year.",
    "own/more.txt": "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
}


def _collected(folder: Path, name: str = "pages", split: str | None = "validation", **given: Any) -> Any:
    for path, text in PAGES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sources = [
        {"kind": "files", "path": "web", "name": "web"},
        {"kind": "files", "path": "own", "name": "own", "split": split},
    ]
    task = Collect(sources=sources, **given.pop("settings", {}))  # type: ignore[arg-type]
    return run_task(task, {}, folder, name=name, workers=1, folder=folder, **given)


def _documents(folder: Path) -> Documents:
    pages = _collected(folder).artifact
    made = run_task(CleanHtml(pages="pages"), {"pages": pages}, folder, name="documents", workers=1).artifact  # type: ignore[arg-type]
    assert isinstance(made, Documents)
    return made


def test_its_documents_are_validated_on_and_their_copies_not_trained_on(tmp_path: Path) -> None:
    documents = _documents(tmp_path)
    kept = run_task(Dedup(documents="d", max_source_loss=1), {"documents": documents}, tmp_path, workers=1).artifact  # type: ignore[arg-type]
    tokenizer = made_tokenizer(tmp_path / "tokenizer")
    task = Shard(documents="d", tokenizer="t", validation_fraction=0)  # type: ignore[arg-type]
    shards = run_task(task, {"documents": kept, "tokenizer": tokenizer}, tmp_path, name="shards", workers=1).artifact
    assert isinstance(shards, Shards)
    sides = {}
    for side in ("train", "validation"):
        split = shards.split(side)  # type: ignore[arg-type]
        sides[side] = {tokenizer.decode(split.document(number)) for number in range(split.documents)}
    assert sides["train"] == {PAGES["web/other.txt"], PAGES["web/third.txt"]}
    assert sides["validation"] == {PAGES["own/kept.txt"], PAGES["own/more.txt"]}


def test_of_a_repeated_passage_it_keeps_its_own(tmp_path: Path) -> None:
    task = DropPassages(documents="d", unit="paragraphs", per="corpus", min_documents=2, min_share=0)  # type: ignore[arg-type]
    made = run_task(task, {"documents": _documents(tmp_path)}, tmp_path, workers=1).artifact
    assert isinstance(made, Documents)
    texts = {row["url"]: row["text"] for table in made.tables() for row in table.to_pylist()}
    assert texts["kept.txt"] == PAGES["own/kept.txt"]
    assert COMMON not in texts.get("copy.txt", "")


@pytest.mark.parametrize("vanished", ["drop", "keep"])
def test_a_source_that_changes_sides_leaves_nothing_behind(tmp_path: Path, vanished: str) -> None:
    settings = {"vanished": vanished}
    before = _collected(tmp_path, "before", split=None, settings=settings).artifact
    for name, split in (("after", "validation"), ("back", None)):
        after = _collected(tmp_path, name, split, previous=before, settings=settings).artifact
        ids = {row["url"]: row["id"] for table in after.tables(["id", "url"]) for row in table.to_pylist()}
        assert len(ids) == after.rows == len(PAGES)
        assert {url for url, identity in ids.items() if is_validation(identity, 0)} == (
            {"kept.txt", "more.txt"} if split else set()
        )
        before = after


def test_what_is_derived_from_it_is_held_out_too() -> None:
    identity = document_id("own", "kept.txt", held_out=True)
    assert identity.startswith(document_id("own", "kept.txt"))
    assert is_validation(identity, 0)
    assert is_validation(derived_id(identity, 3), 0)
    assert not is_validation(document_id("own", "kept.txt"), 0)
