"""Removing folders: the name is free at once, and all is gone when the process says so."""

from __future__ import annotations

from pathlib import Path

from storage.disk import REMOVED, finish_removals, remove_later


def test_a_removed_folder_leaves_its_name_at_once_and_the_disk_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "key"
    for number in range(300):
        place = folder / f"{number % 7}" / f"{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("text")
    remove_later(folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "new.txt").write_text("the next one's")
    finish_removals()
    assert list((tmp_path / "work" / REMOVED).iterdir()) == []
    assert [path.name for path in folder.iterdir()] == ["new.txt"]


def test_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    remove_later(tmp_path / "work" / "never made")
    finish_removals()
    assert list((tmp_path / "work" / REMOVED).iterdir()) == []
