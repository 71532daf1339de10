"""The pages of ``benchmarks/limited.py`` are as many as are wanted, and no copies of each other."""

from __future__ import annotations

from benchmarks.limited import in_other_words


def test_other_words_leave_the_markup_as_it_is() -> None:
    page = b'<html><body class="wide"><p>the words of a page</p><p>the 2nd time</p></body></html>'
    changed = in_other_words(page, 1)
    assert changed == in_other_words(page, 1)
    assert changed != in_other_words(page, 2)
    assert changed.startswith(b'<html><body class="wide"><p>')
    words = changed.split(b"<p>")[1].split(b"</p>")[0].split()
    assert [len(word) for word in words] == [3, 5, 2, 1, 4]
    assert b"the" not in changed
    assert b"<p>" + words[0] + b" 2" in changed, "the same word becomes the same word"
