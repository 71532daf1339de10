"""Publication dates as pages write them."""

from __future__ import annotations

import re
from datetime import date

EARLIEST = date(1990, 1, 1)
"""There was no web page before; 1970-01-01 and 0001-01-01 are empty fields of a database."""
LATEST = date(2035, 12, 31)
"""Later dates (2038-01-19, 2099-12-31, 9999-12-31) stand for "never". Fixed, since a result may not depend on the
clock; where it is known when a page was collected, that bounds the date closer."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"({'|'.join(_MONTHS)})[a-z]{{0,6}}\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_WEEKDAY = r"(?:[a-z]{3,9},?\s{1,3})?"
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)|(\d{4})(\d\d)(\d\d)(?!\d)")
_DOTTED = re.compile(r"(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})\b")
_WIDE = re.compile(r"(\d{4})\s{0,3}[年년]\s{0,3}(\d{1,2})\s{0,3}[月월]\s{0,3}(\d{1,2})\s{0,3}[日号號일]")
_DAY_FIRST = re.compile(rf"{_WEEKDAY}{_DAY}[\s-]{{1,3}}{_MONTH}[\s,-]{{1,3}}(\d{{4}})\b")
_MONTH_FIRST = re.compile(rf"{_WEEKDAY}{_MONTH}\s{{1,3}}{_DAY},?\s{{1,3}}(\d{{4}})\b")


def iso_date(text: str, latest: date = LATEST) -> str | None:
    """The day that ``text`` begins with, as ``2024-05-31``; None if there is none, or none that can be.

    Reads ISO 8601 (``2024-05-31T10:00:00Z``, ``20240531``), ``2024/5/31``, ``31.05.2024``, ``2024年5月31日``,
    ``Fri, 31 May 2024 …`` and ``May 31, 2024``. ``05/06/2024`` is refused: it has two meanings.
    """
    text = text.strip()[:60].lower()
    found = _parts(text)
    if found is None:
        return None
    try:
        day = date(*found)
    except ValueError:
        return None
    return day.isoformat() if EARLIEST <= day <= min(latest, LATEST) else None


def _parts(text: str) -> tuple[int, int, int] | None:
    """Year, month, day."""
    if match := _YEAR_FIRST.match(text):
        year, _, month, day, *compact = match.groups()
        if year is None:
            year, month, day = compact
        return int(year), int(month), int(day)
    if match := _DOTTED.match(text):
        return int(match[3]), int(match[2]), int(match[1])
    if match := _WIDE.match(text):
        return int(match[1]), int(match[2]), int(match[3])
    if match := _DAY_FIRST.match(text):
        return int(match[3]), _MONTHS.index(match[2]) + 1, int(match[1])
    if match := _MONTH_FIRST.match(text):
        return int(match[3]), _MONTHS.index(match[1]) + 1, int(match[2])
    return None
