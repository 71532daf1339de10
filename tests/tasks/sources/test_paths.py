"""Globs, beside a definition that goes part by part."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.sources.files import Files
from tasks.sources.paths import fitting

NAMES = st.lists(st.text("ab.-中", min_size=1, max_size=4), min_size=1, max_size=4)
PARTS = st.one_of(
    st.text("ab.*?-中", min_size=1, max_size=4).filter(lambda part: "**" not in part),
    st.sampled_from(["[ab]", "[!a]", "[a-b]*", "[]a]", "[!]a]", "[ab"]),
)
PATTERNS = st.tuples(st.lists(st.one_of(st.just("**"), PARTS), max_size=3), PARTS).map(lambda both: [*both[0], both[1]])


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path fits a pattern: ``**`` is any number of folders, and no wildcard is for a hidden name."""
    if not pattern or not parts:
        return not parts and not pattern
    if pattern[0] == "**":
        skipped = range(len(parts) + 1)
        return any(
            _matches(parts[count:], pattern[1:])
            for count in skipped
            if not any(part.startswith(".") for part in parts[:count])
        )
    if parts[0].startswith(".") and not pattern[0].startswith("."):
        return False
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


@settings(max_examples=200, deadline=None)
@given(NAMES, PATTERNS)
def test_a_glob_fits_what_its_parts_fit(parts: list[str], pattern: list[str]) -> None:
    assert fitting("/".join(pattern))("/".join(parts)) == _matches(parts, pattern)


def test_all_below_a_folder() -> None:
    names = ["a", "b/c", ".d", "b/.e/f", "b/.g", "b/h/i.j"]
    assert list(filter(fitting("**"), names)) == ["a", "b/c", "b/h/i.j"]
    assert list(filter(fitting("b/**"), names)) == ["b/c", "b/h/i.j"]


def test_a_glob_that_is_none_is_said() -> None:
    with pytest.raises(ValidationError, match=r"the glob is none \(bad character range"):
        Files(path="site/[z-a].html")
