"""Personal data: what is found, what is found wrongly in documentation, and how fast, beside Presidio and datatrove.

Presidio's pattern recognisers are asked one by one, without its NLP engine; a match counts from a
score of 0.4 on. datatrove's formatter knows e-mail and IPv4 addresses only. Peers that are not
installed are left out.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from benchmarks.corpora import html_files, shared
from benchmarks.made_chinese import Sentence, sentences
from benchmarks.measure import Table, compare, rate, ratio, versions
from storage.corpus import DOCUMENTS_SCHEMA, table_of, write_table
from tasks.pii.find import find, find_in
from tasks.pii.kinds import PLACEHOLDERS, Found
from tasks.pii.replace import Replacer, spliced
from tasks.rows import work_on_rows
from tasks.scrub_pii import Scrub, ScrubPii

Finder = Callable[[str], list[Found]]

_LABELS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IP_ADDRESS": "ip_address",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
}
_CORPORA = (
    ("python3.11-doc", "", 4_000_000),
    ("postgresql-doc-15", "", 4_000_000),
    ("rust-doc", "", 4_000_000),
    ("debian-handbook", "zh-", 2_000_000),
    ("libreoffice-help-zh-cn", "", 2_000_000),
)
"""Package, part of the path, and bytes of text at most."""
_PRESIDIO_BYTES = 200_000
_WRONG = re.compile(
    r"[0-9]{8,}\.[^@]*@.*|.*@mail\.gmail\.com"  # names of messages (Message-ID)
    r"|password@(?:python\.org|example\.com)"  # joe:password@python.org
    r"|(?:username|hostbased)@EXAMPLE\.COM"  # Kerberos principals
    r"|mydb@sql\.mydomain\.com"  # a database
    r"|1\.0\.0\.127"  # an address read backwards
)
"""Of what is found in these packages, what was judged by eye to be no personal data (nor an example of one)."""


def measure() -> list[Table]:
    """Four tables: labelled sentences, made-up Chinese, documentation, speed."""
    return [_labelled(), _chinese(), _documentation(), _speed()]


def _same(kind: str) -> str:
    """Chinese mobile numbers are telephone numbers, where no other finder tells them apart."""
    return "phone" if kind == "chinese_mobile" else kind


def _peers() -> dict[str, Finder]:
    peers: dict[str, Finder] = {}
    if importlib.util.find_spec("presidio_analyzer"):
        peers["Presidio's patterns"] = _by_presidio
    if importlib.util.find_spec("datatrove"):
        peers["datatrove"] = _by_datatrove
    return peers


@cache
def _recognizers() -> list[Any]:
    import tldextract
    from presidio_analyzer import predefined_recognizers as known

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # the list that it carries, not a download

    regions = (*known.PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS, "CN")
    others = ("Email", "Ip", "CreditCard", "Iban", "UsSsn", "UsPassport", "MacAddress")
    return [known.PhoneRecognizer(supported_regions=regions)] + [
        getattr(known, f"{name}Recognizer")() for name in others
    ]


_PRESIDIO_KINDS = {**_LABELS, "US_PASSPORT": "passport", "MAC_ADDRESS": "mac_address"}


def _by_presidio(text: str) -> list[Found]:
    found = []
    for recognizer in _recognizers():
        for result in recognizer.analyze(text, recognizer.supported_entities, None) or ():
            if result.score >= 0.4 and result.entity_type in _PRESIDIO_KINDS:
                found.append(Found(_PRESIDIO_KINDS[result.entity_type], result.start, result.end))
    return found


@cache
def _formatter() -> Any:
    from datatrove.pipeline.formatters import PIIFormatter

    return PIIFormatter(only_remove_public_ips=False)


def _by_datatrove(text: str) -> list[Found]:
    replacers = (("email", _formatter().emails_replacer), ("ip_address", _formatter().ip_replacer))
    return [Found(kind, *match.span()) for kind, replacer in replacers for match in replacer.regex.finditer(text)]


def _judged(finder: Finder, labelled: Sequence[Sentence]) -> dict[str, tuple[int, int, int, int]]:
    """By kind: items, those found in part, those covered whole, and findings that touch no item of any kind."""
    items, found_, whole, wrong = Counter(), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for sentence in labelled:
        found = [Found(_same(item.kind), item.start, item.end) for item in finder(sentence.text)]
        for kind, start, end in ((_same(kind), start, end) for kind, start, end in sentence.spans):
            same = [item for item in found if item.kind == kind]
            items[kind] += 1
            found_[kind] += any(item.start < end and start < item.end for item in same)
            whole[kind] += any(item.start <= start and end <= item.end for item in same)
        for item in found:
            wrong[item.kind] += not any(item.start < end and start < item.end for _, start, end in sentence.spans)
    return {kind: (items[kind], found_[kind], whole[kind], wrong[kind]) for kind in items | wrong}


def _quality(title: str, labelled: Sequence[Sentence], notes: Sequence[str]) -> Table:
    finders = {"Athanor": find, **_peers()}
    judged = {name: _judged(finder, labelled) for name, finder in finders.items()}
    kinds = [kind for kind in PLACEHOLDERS if judged["Athanor"].get(kind, (0,))[0]]
    rows = []
    for kind in kinds:
        row = [kind, str(judged["Athanor"][kind][0])]
        for name in finders:
            items, hits, whole, wrong = judged[name].get(kind, (0, 0, 0, 0))
            knows = hits or wrong
            row.append(f"{hits / (hits + wrong):.3f} / {hits / items:.3f} / {whole / items:.3f}" if knows else "–")
        rows.append(row)
    columns = ["kind", "items", *(f"{name}: precision / recall / covered whole" for name in finders)]
    return Table(title, columns, rows, notes)


def _labelled() -> Table:
    path = shared("pii/presidio/synth_dataset_v2.json")
    labelled = [
        Sentence(
            entry["full_text"],
            tuple(
                (_LABELS[span["entity_type"]], span["start_position"], span["end_position"])
                for span in entry["spans"]
                if span["entity_type"] in _LABELS
            ),
        )
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
    return _quality(
        "Personal data in labelled English sentences",
        labelled,
        [
            f"{len(labelled):,} sentences of presidio-research. The words that make a number a telephone number were "
            "looked for in these very sentences, so recall is lower elsewhere. Out of scope by definition: driving "
            "licences, web addresses, and card numbers without an issuer's prefix. A finding is wrong if it touches "
            "no labelled item."
        ],
    )


def _chinese() -> Table:
    made = sentences()
    alike = sum(not sentence.spans for sentence in made)
    return _quality(
        "Personal data in made-up Chinese sentences",
        made,
        [
            f"{len(made):,} sentences, {alike:,} of them with numbers that only look like it (order numbers with a "
            "wrong check digit, dates, versions, ISBNs, amounts, coordinates, hashes). Made beside the forms. "
            "Missed by definition: digits and at signs in full width, and landline numbers that no word calls one."
        ],
    )


@cache
def _texts(package: str, part: str, most: int) -> list[str]:
    from resiliparse.extract.html2text import extract_plain_text

    texts: list[str] = []
    size = 0
    files = [path for path in html_files(package) if part in path.as_posix()]
    for path in files[:: max(1, len(files) // 1_500)]:
        text = extract_plain_text(path.read_text("utf-8", "replace"), main_content=True)
        texts.append(text)
        size += len(text.encode())
        if size >= most:
            break
    return texts


def _words(texts: Iterable[str]) -> float:
    """Words; 1.6 Chinese characters count as one."""
    joined = "\n".join(texts)
    chinese = len(re.findall(r"[\u4e00-\u9fff]", joined))
    return len(re.findall(r"[^\W\u4e00-\u9fff]+", joined)) + chinese / 1.6


def _documentation() -> Table:
    rows = []
    for package, part, most in _CORPORA:
        texts = _texts(package, part, most)
        words = _words(texts) / 1e6
        items = [(item.kind, text[item.start : item.end]) for text in texts for item in find(text)]
        wrong = sum(_WRONG.fullmatch(value) is not None for _, value in items)
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in Counter(kind for kind, _ in items).most_common())
        row = [package, f"{words:.2f}", kinds, str(wrong), f"{wrong / words:.1f}"]
        some = _up_to(texts, _PRESIDIO_BYTES * 5)
        for finder in _peers().values():
            part_of = _up_to(texts, _PRESIDIO_BYTES) if finder is _by_presidio else some
            found = Counter(_same(item.kind) for text in part_of for item in finder(text))
            part_words = _words(part_of) / 1e6
            row.append(", ".join(f"{kind} {count / part_words:,.0f}" for kind, count in found.most_common(4)) or "none")
        rows.append(row)
    columns = ["package", "million words", "found by Athanor", "of these wrong", "wrong per million words"]
    return Table(
        "Personal data in documentation",
        [*columns, *(f"found by {name}, per million words" for name in _peers())],
        rows,
        [
            "Right is what is an address, number or key by its form and place in the text, examples included "
            "(jane@example.com, 192.0.2.1); wrong are version and section numbers, dates, ISBNs, sums and the "
            "like. A person read the findings of Athanor in samples of these packages of Debian 12; what was judged "
            "wrong is listed in the benchmark, and is what is counted. Peers' findings were not judged: most of their "
            "telephone numbers and passports are other numbers, and many of datatrove's IP addresses are section and "
            "version numbers."
        ],
    )


def _up_to(texts: Sequence[str], most: int) -> list[str]:
    chosen, size = [], 0
    for text in texts:
        chosen.append(text[:most])
        size += len(text.encode())
        if size >= most:
            break
    return chosen


def _each(function: Callable[[str], object], texts: Sequence[str]) -> None:
    for text in texts:
        function(text)


def _replace_all(texts: Sequence[bytes]) -> list[bytes]:
    replacer = Replacer({}, {}, b"")
    return [
        spliced(text, found, [replacer(item, "") for item in found])
        for text, found in zip(texts, find_in(texts), strict=True)
    ]


def _step(texts: Sequence[str]) -> Callable[[], object]:
    """The step's work on one partition, Parquet read and written."""
    folder = Path(mkdtemp(prefix="personal-data."))
    atexit.register(rmtree, folder, ignore_errors=True)
    rows = [
        {"id": str(number), "url": str(number), "text": text, "source": "bench", "first_seen": 1}
        for number, text in enumerate(texts)
    ]
    write_table(table_of(rows, DOCUMENTS_SCHEMA), folder / "in.parquet")
    scrub = Scrub(ScrubPii.model_validate({"documents": "d"}), b"", folder)

    def unguarded(document: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    return lambda: work_on_rows(scrub, folder / "in.parquet", folder / "out.parquet", unguarded)


def _speed() -> Table:
    mixed = [text for corpus in _CORPORA for text in _up_to(_texts(*corpus), 1_500_000)]
    sets = {"all five packages": mixed, "Chinese only": _up_to(_texts(*_CORPORA[4]), 1_500_000)}
    rows = []
    for name, texts in sets.items():
        encoded = [text.encode() for text in texts]
        few = _up_to(texts[:: max(1, len(texts) // 20)], _PRESIDIO_BYTES)
        work: dict[str, Callable[[], object]] = {
            "Athanor, all thirteen kinds, found and replaced": partial(_replace_all, encoded),
            "the same as a step, Parquet read and written": _step(texts),
        }
        if "datatrove" in _peers():
            work["datatrove, e-mail and IP"] = partial(_each, _formatter().format, texts)
        if "Presidio's patterns" in _peers():
            work["Presidio's patterns, eight kinds"] = partial(_each, _by_presidio, few)
        seconds = compare(work)
        sizes = {what: sum(len(text.encode()) for text in (few if "Presidio" in what else texts)) for what in work}
        speeds = {what: sizes[what] / seconds[what] / 1e6 for what in work}
        ours = next(iter(speeds.values()))
        rows += [[name, what, rate(speed, 1), ratio(ours, speed)] for what, speed in speeds.items()]
    installed = [
        peer for peer in ("datatrove", "presidio-analyzer") if importlib.util.find_spec(peer.replace("-", "_"))
    ]
    return Table(
        "Speed of finding personal data",
        ["text", "finder", "MB/s and core", "finding and replacing is so many times as fast"],
        rows,
        [f"{versions('numpy', *installed)}. Texts in memory; Presidio on a smaller part of them."],
    )
