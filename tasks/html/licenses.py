"""Licences as pages name them, by short names: SPDX identifiers where there is one."""

from __future__ import annotations

import re

_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/(by(?:-nc)?(?:-nd|-sa)?|nc-sa|sa)/(\d\.\d)(?:/([a-z]{2}|igo|scotland)\b)?"
    r"|(publicdomain/zero|publicdomain/mark)/(\d\.\d)|(licenses/publicdomain))",
    re.IGNORECASE,
)
_NAMED_CREATIVE_COMMONS = re.compile(
    r"(?:creative\s?commons|cc)[\s-]?(by(?:[\s-]nc)?(?:[\s-](?:nd|sa))?)[\s-]?v?(\d\.\d)(?:[\s-](igo))?", re.IGNORECASE
)
_CC0 = re.compile(r"cc[\s-]?0(?:[\s-]1\.0)?(?:\s?universal)?", re.IGNORECASE)
_PUBLIC_DOMAIN = {"publicdomain/zero": "CC0", "publicdomain/mark": "CC-PDM"}
_ADDRESSES = (
    (re.compile(r"gnu\.org/(?:licenses|copyleft)/(?:old-licenses/)?(fdl|[al]?gpl)-(\d\.\d)", re.IGNORECASE), "{}-{}"),
    (re.compile(r"apache\.org/licenses/license-(\d\.\d)", re.IGNORECASE), "Apache-{}"),
    (re.compile(r"opensource\.org/licen[sc]es?/([a-z][a-z0-9.-]{1,30}?)(?:\.(?:php|html))?/?$", re.IGNORECASE), "{}"),
    (re.compile(r"spdx\.org/licenses/([a-z0-9][a-z0-9.+-]{1,40}?)(?:\.html)?/?$", re.IGNORECASE), "{}"),
    (re.compile(r"nationalarchives\.gov\.uk/doc/open-government-licence/version/(\d)", re.IGNORECASE), "OGL-UK-{}.0"),
)
_NAMES = (
    "MIT ISC Zlib Unlicense WTFPL Apache-2.0 MPL-1.1 MPL-2.0 EPL-1.0 EPL-2.0 EUPL-1.2 BSD-2-Clause BSD-3-Clause 0BSD "
    "Artistic-2.0 PostgreSQL PSF-2.0 Python-2.0 BSL-1.0 GPL-2.0 GPL-3.0 LGPL-2.1 LGPL-3.0 AGPL-3.0 GFDL-1.1 GFDL-1.2 "
    "GFDL-1.3 OGL-UK-3.0 ODbL-1.0 ODC-By-1.0 PDDL-1.0"
)
_SPELLING = {
    **{name.lower(): name for name in _NAMES.split()},
    **{"mit-license": "MIT", "fdl-1.1": "GFDL-1.1", "fdl-1.2": "GFDL-1.2", "fdl-1.3": "GFDL-1.3"},
}


def short_name(text: str) -> str | None:
    """The short name of the licence that ``text`` (an address, or a name) stands for; None if it is not known.

    Creative Commons: ``CC-BY-SA-4.0``, ``CC-BY-3.0-DE`` (a version for one country), ``CC0-1.0``,
    ``CC-PDM-1.0`` (the public domain mark).
    """
    text = text.strip()[:300]
    if match := _CREATIVE_COMMONS.search(text):
        rights, version, country, dedication, dedication_version, _ = match.groups()
        if rights:
            return f"CC-{rights}-{version}{'-' + country if country else ''}".upper()
        return f"{_PUBLIC_DOMAIN[dedication.lower()]}-{dedication_version}" if dedication else "CC-PDDC"
    if match := _NAMED_CREATIVE_COMMONS.match(text):
        rights = re.sub(r"\s", "-", match[1])
        return f"CC-{rights}-{match[2]}{'-' + match[3] if match[3] else ''}".upper()
    if _CC0.fullmatch(text):
        return "CC0-1.0"
    for pattern, form in _ADDRESSES:
        if match := pattern.search(text):
            return _spelt(form.format(*match.groups()))
    name = re.sub(r"\s{1,9}", "-", text)
    return _spelt(name) if name.lower() in _SPELLING else None


def _spelt(name: str) -> str:
    """The name as SPDX writes it."""
    return _SPELLING.get(name.lower(), name)
