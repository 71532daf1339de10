"""Dates and licences in a page's structured data (schema.org, as JSON-LD)."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_MOST_SCRIPTS = 20
_MOST_CHARACTERS = 500_000
_MOST_NODES = 5_000
_OTHER_TYPES = (
    "comment review usercomments imageobject videoobject audioobject mediaobject person organization place product "
    "offer event itemlist listitem breadcrumblist dataset"
)
_ABOUT_OTHER_THINGS = frozenset(_OTHER_TYPES.split())
"""Types whose dates and licences are not those of the page."""
_KEYED = re.compile(r'"(datePublished|license)"\s{0,9}:\s{0,9}"([^"\\]{1,500})"')


class Stated(NamedTuple):
    """Values in the order of their likelihood: those nearest to the top of the data come first."""

    dates: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()


def stated_in_json_ld(html: str) -> Stated:
    """``datePublished`` and ``license`` of what a page's JSON-LD describes."""
    dates: list[str] = []
    licenses: list[str] = []
    position = 0
    for _ in range(_MOST_SCRIPTS):
        position = html.find("ld+json", position)
        if position < 0:
            break
        start = html.find(">", position, position + 1_000)
        end = html.find("</", start, start + _MOST_CHARACTERS) if start >= 0 else -1
        while end >= 0 and html[end : end + 8].lower() != "</script":
            end = html.find("</", end + 2, start + _MOST_CHARACTERS)
        position += len("ld+json")
        if end < 0:
            continue
        script, position = html[start + 1 : end], end
        if "datePublished" in script or '"license"' in script:
            _read(script, dates, licenses)
    return Stated(tuple(dates), tuple(licenses))


def _read(script: str, dates: list[str], licenses: list[str]) -> None:
    try:
        data = json.loads(script, strict=False)
    except (ValueError, RecursionError):  # broken by hand or by a template, as a few percent are
        for key, value in _KEYED.findall(script):
            (dates if key == "datePublished" else licenses).append(value)
        return
    layer, seen = [data], 0
    while layer and seen < _MOST_NODES:
        below: list[Any] = []
        for node in layer:
            seen += 1
            if isinstance(node, list):
                below += node
            elif isinstance(node, dict) and not _is_other(node):
                _take(node, dates, licenses)
                below += [value for value in node.values() if isinstance(value, (dict, list))]
        layer = below


def _is_other(node: dict[str, Any]) -> bool:
    types = node.get("@type")
    named = types if isinstance(types, list) else [types]
    return any(isinstance(name, str) and name.lower() in _ABOUT_OTHER_THINGS for name in named)


def _take(node: dict[str, Any], dates: list[str], licenses: list[str]) -> None:
    published, license_ = node.get("datePublished"), node.get("license")
    if isinstance(published, str):
        dates.append(published)
    if isinstance(license_, dict):
        license_ = license_.get("url") or license_.get("@id")
    if isinstance(license_, str):
        licenses.append(license_)
