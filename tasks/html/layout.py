"""Text with its layout as lines, from elements and text as they come.

Follows what a browser shows (the ``innerText`` algorithm of the HTML standard): white space
collapses, no-break spaces stay and become plain ones, blocks start on their own lines, paragraphs,
lists and tables are set off by a blank line, cells of a row are separated by tabs, ``pre`` is kept
as it is. Beyond that, list items are marked; and lines of Chinese and Japanese that only the source
breaks are joined. As Markdown, headings, quotes, code, emphasis and tables are marked too; characters
that Markdown gives a meaning are not escaped, for the text is to be read by a model.
"""

from __future__ import annotations

import re
from functools import partial

from tasks.html.names import names

WIDE = "\u2e80-\u303f\u3040-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff01-\uff60\uff61-\uff9f\U00020000-\U0003ffff"
"""Han, kana, and their punctuation: scripts without spaces between words (Hangul has them)."""
WIDE_LINE_BREAK = re.compile(f"(?<=[{WIDE}])[ \t]*+\n[ \t\n]*+(?=[{WIDE}])")
"""White space between such characters that only wraps the source."""


BLOCKS = frozenset(
    names(
        "address article aside body caption center dd details div dl dt fieldset figcaption figure footer form h1 h2 "
        "h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary table tbody tfoot "
        "thead tr ul blockquote"
    )
)
HEADINGS = frozenset(names("h1 h2 h3 h4 h5 h6"))
SPACED = frozenset(names("p pre h1 h2 h3 h4 h5 h6 ul ol dl table blockquote figure"))
"""Blocks that a blank line sets off (nested lists and tables excepted)."""
CELLS = ("td", "th")
MAX_INDENTATION = 8
"""Levels of nested lists, or of quotes, that are shown."""

_SPACES = re.compile(r"[ \t\n\r\f]+")
_CELL = "\x1f"
"""Stands between cells until white space has collapsed; pages hold no control characters."""
_STRONG, _STRONG_END, _SLANTED, _SLANTED_END, _CODE, _CODE_END = "\x0e\x0f\x10\x11\x12\x13"
_BETWEEN_CELLS = re.compile(f" ?{_CELL} ?")
_INLINE = {
    "b": (_STRONG, _STRONG_END), "strong": (_STRONG, _STRONG_END), "i": (_SLANTED, _SLANTED_END),
    "em": (_SLANTED, _SLANTED_END), "code": (_CODE, _CODE_END), "kbd": (_CODE, _CODE_END),
    "samp": (_CODE, _CODE_END), "tt": (_CODE, _CODE_END),
}  # fmt: skip
_MARKS = [
    (re.compile(f"{begin}(\\s*)([^{begin}{end}]*?)(\\s*){end}"), mark)
    for begin, end, mark in ((_CODE, _CODE_END, "`"), (_STRONG, _STRONG_END, "**"), (_SLANTED, _SLANTED_END, "*"))
]
_LEFT = re.compile(f"[{_STRONG}-{_CODE_END}]")


class Layout:
    """Lines being written: call ``open`` and ``close`` for elements, ``write`` for text in between, then ``text``.

    Closing what was never opened does no harm.
    """

    def __init__(self, markdown: bool = False) -> None:
        self.markdown = markdown
        self._lines: list[str] = []
        self._line: list[str] = []
        self.write = self._line.append
        """Take text as it stands in the source."""
        self._gap = False
        self._marker = ""
        self._lists: list[int | None] = []
        self._cells: list[tuple[int, int, bool]] = []
        self._rows: list[int] = []
        self._quotes = 0
        self._pre = 0

    def text(self) -> str:
        """What was written."""
        if self._pre:
            self._pre = 1
            self._end_preformatted()
        self.end_line()
        return "\n".join(self._lines)

    def begun(self) -> bool:
        """Whether there is anything on the current line."""
        return bool(self._line)

    def open(self, name: str, start: str = "") -> None:
        """An element begins; ``start`` is the first number of an ``ol``."""
        if name in CELLS:
            if self._ink():
                self._line.append(_CELL)
            self._cells.append((len(self._lines), len(self._line), self._gap))
        elif name in BLOCKS:
            self._set_off(name, bool(self._lists), bool(self._cells))
            self._open_block(name, start)
        elif name == "br":
            if self._pre:
                self._line.append("\n")
            else:
                self.end_line(keep_blank=True)
        elif self.markdown and name in _INLINE and not self._pre:
            self._line.append(_INLINE[name][0])

    def element(self, name: str, text: str) -> None:
        """A heading, a paragraph or an item that holds nothing but text: as ``open``, ``write``, ``close``."""
        if self._line or self._pre or self._marker or self._cells or (self.markdown and name != "p"):
            self.open(name)
            self.write(text)
            self.close(name)
            return
        if name == "li":
            self._marker = self._next_marker()
        else:
            self._gap = True
        self.write(text)
        self.end_line()
        if name == "li":
            self._marker = ""
        else:
            self._gap = True

    def _open_block(self, name: str, start: str) -> None:
        if name == "li":
            self._marker = self._next_marker()
        elif name in ("ul", "ol"):
            number = int(start) if start.isdecimal() and len(start) < 9 else 1
            self._lists.append(number if name == "ol" else None)
        elif name == "pre":
            self._pre += 1
        elif name == "table":
            self._rows.append(0)
        elif self.markdown and name == "blockquote":
            self._quotes += 1
        elif self.markdown and name in HEADINGS:
            self._marker = "#" * int(name[1]) + " "
        elif self.markdown and name == "hr" and self._lines:
            self._gap = True
            self._add("---")
            self._gap = True

    def close(self, name: str) -> None:
        """An element ends."""
        if name in CELLS:
            if self._cells:
                self._close_cell()
        elif name in BLOCKS:
            if name == "pre" and self._pre:
                self._end_preformatted()
            self._set_off(name, len(self._lists) > 1, bool(self._cells))
            if name == "li" or name in HEADINGS:
                self._marker = ""
            elif name in ("ul", "ol"):
                del self._lists[-1:]
            elif name == "table":
                del self._rows[-1:]
            elif name == "blockquote" and self._quotes:
                self._quotes -= 1
        elif self.markdown and name in _INLINE and not self._pre:
            self._line.append(_INLINE[name][1])

    def _set_off(self, name: str, in_list: bool, in_cell: bool) -> None:
        self.end_line()
        if name in SPACED and not self._marker:
            nested = (in_list and name in ("ul", "ol")) or (in_cell and name == "table")
            self._gap = self._gap or not nested

    def _close_cell(self) -> None:
        lines, parts, gap = self._cells.pop()
        if len(self._lines) == lines and not "".join(self._line[parts:]).replace("\xa0", " ").strip():
            del self._line[parts:]  # a gutter: nothing but white space
            self._gap = gap

    def _ink(self) -> bool:
        return bool(self._line) and bool("".join(self._line).replace("\xa0", " ").strip())

    def _next_marker(self) -> str:
        if not self._lists:
            return "- "
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        return "  " * min(len(self._lists) - 1, MAX_INDENTATION) + ("- " if number is None else f"{number}. ")

    def end_line(self, keep_blank: bool = False) -> None:
        """Start a new line, unless one was just started."""
        if self._pre:
            return
        line = ""
        if self._line:
            line = "".join(self._line)
            self._line.clear()
            if "\n" in line and not line.isascii():
                line = WIDE_LINE_BREAK.sub("", line)
            if "  " in line or "\n" in line or "\t" in line or "\r" in line or "\f" in line:
                line = _SPACES.sub(" ", line)
            line = line.removeprefix(" ").replace("\xa0", " ").rstrip()
        if line:
            self._add(self._row(_BETWEEN_CELLS.split(line)) if _CELL in line else self._marked(line))
        elif keep_blank and self._lines and self._lines[-1]:
            self._gap = True

    def _add(self, line: str) -> None:
        """A line with ink."""
        quote = "> " * min(self._quotes, MAX_INDENTATION)
        if self._gap:
            if self._lines and self._lines[-1]:
                self._lines.append(quote.rstrip() if self._lines[-1].startswith(">") else "")
            self._gap = False
        self._lines.append(quote + self._marker + line)
        self._marker = ""

    def _row(self, cells: list[str]) -> str:
        if not self.markdown or not self._rows:
            return "\t".join(cells)
        self._rows[-1] += 1
        row = "| " + " | ".join(self._marked(cell).replace("|", "\\|") for cell in cells) + " |"
        return row + "\n" + "|" + " --- |" * len(cells) if self._rows[-1] == 1 else row

    def _marked(self, line: str) -> str:
        """With Markdown's marks where they belong: close to the words."""
        if self.markdown and _LEFT.search(line):
            for pattern, mark in _MARKS:
                line = pattern.sub(partial(_mark, mark), line)
            line = _LEFT.sub("", line)
        return line

    def _end_preformatted(self) -> None:
        """Write what a ``pre`` held, line by line."""
        self._pre -= 1
        if self._pre:
            return
        lines = _LEFT.sub("", "".join(self._line)).replace("\xa0", " ").replace(_CELL, "\t").split("\n")
        self._line.clear()
        while lines and not lines[0].strip():
            del lines[0]
        while lines and not lines[-1].strip():
            del lines[-1]
        if not lines:
            return
        if self.markdown:
            lines = ["```", *lines, "```"]
        self._add(lines[0].rstrip())
        self._lines += [line.rstrip() for line in lines[1:]]


def _mark(mark: str, match: re.Match[str]) -> str:
    before, text, after = match.groups()
    return f"{before}{mark}{text}{mark}{after}" if text else before + after
