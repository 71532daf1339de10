"""Extraction of main text: quality by labelled snippets and by agreement, and speed, beside the peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import trafilatura
from resiliparse.extract.html2text import extract_plain_text

from benchmarks.article_pages import Page, Quality, article_pages, by_shingles, by_snippets, html_of
from benchmarks.corpora import html_files
from benchmarks.fit_blocks import fit_to, packed
from benchmarks.measure import Table, compare, rate, ratio, versions
from tasks.clean_html import CleanHtml, batches_of, clean_pages
from tasks.html.extractors import extract, extract_each
from tasks.html.main_text import main_text
from tasks.html.scoring import unpacked

Extractor = Callable[[str], str]
QUALITY_EVERY = 2
"""Of the half of the pages that nothing was fitted to, every so many-th is judged."""
SPEED_EVERY = 16
LARGE_BYTES = (140_000, 210_000)
LARGE_PAGES = 24
DOCUMENTATION = ("rust-doc", "cppreference-doc-en-html", "apache2-doc", "debian-handbook")
DOCUMENTATION_PAGES = 60
"""Pages taken of each package, evenly spread over their names."""


def _trafilatura(fast: bool, html: str) -> str:
    return trafilatura.extract(html, include_comments=False, fast=fast) or ""


def _resiliparse(html: str) -> str:
    return str(extract_plain_text(html, main_content=True, alt_texts=False, comments=False))


EXTRACTORS: dict[str, Extractor] = {
    "athanor": partial(extract, extractor="athanor"),
    "trafilatura": partial(_trafilatura, False),
    "trafilatura, fast": partial(_trafilatura, True),
    "resiliparse, main content": _resiliparse,
    "athanor's `beautifulsoup`": partial(extract, extractor="beautifulsoup"),
}


def measure() -> list[Table]:
    """Tables of quality and speed; raises DataMissing without the labelled pages."""
    pages = article_pages()
    reference = {page.name: _trafilatura(False, page.html) for page in pages}
    judged = [page for page in pages if page.held_out][::QUALITY_EVERY]
    fitted = unpacked(*packed(fit_to([page for page in pages if not page.held_out], reference)))
    texts = {name: {page.name: extractor(page.html) for page in judged} for name, extractor in EXTRACTORS.items()}
    texts["athanor"] = {page.name: main_text(page.html, fitted=fitted) for page in judged}
    large = [page for page in pages if LARGE_BYTES[0] <= len(page.html.encode()) <= LARGE_BYTES[1]][:LARGE_PAGES]
    return [
        _quality(judged, texts, reference),
        _speed("Extraction: speed", [page.html for page in pages[::SPEED_EVERY]]),
        _speed("Extraction: speed on large pages", [page.html for page in large]),
        _speed("Extraction: speed on documentation", _documentation()),
    ]


def _documentation() -> list[str]:
    """Pages of Debian's packages."""
    files = [html_files(package) for package in DOCUMENTATION]
    drawn = [paths[:: len(paths) // DOCUMENTATION_PAGES][:DOCUMENTATION_PAGES] for paths in files]
    return [html_of(path.read_bytes()) for paths in drawn for path in paths]


def _is_article(page: Page, reference: str) -> bool:
    """Whether trafilatura finds all that must be there, nothing that must not, and at least 1,500 characters."""
    flat = " ".join(reference.split())
    return (
        len(reference) >= 1_500
        and all(" ".join(snippet.split()) in flat for snippet in page.present)
        and not any(" ".join(snippet.split()) in flat for snippet in page.absent)
    )


def _quality(pages: Sequence[Page], texts: Mapping[str, Mapping[str, str]], reference: Mapping[str, str]) -> Table:
    articles = [page for page in pages if _is_article(page, reference[page.name])]
    rows = []
    for name in EXTRACTORS:
        snippets = by_snippets(pages, texts[name])
        agreement = by_shingles(articles, texts[name], reference)
        rows.append([name, *_shares(snippets), *_shares(agreement)])
    return Table(
        "Extraction: quality",
        ("extractor", "F1", "precision", "recall", "agreement F1", "precision", "recall"),
        rows,
        (
            f"F1, precision and recall: snippets that the main text must and must not hold, on {len(pages)} real pages "
            "(trafilatura's evaluation set), none of which the network measured here was fitted to: it was fitted to "
            "the other half just now; the one that ships is fitted to all.",
            f"Agreement: 4-grams of words shared with trafilatura on the {len(articles)} of these pages where it "
            "makes no fault by the snippets and finds at least 1,500 characters.",
            versions("trafilatura", "resiliparse", "beautifulsoup4"),
        ),
    )


def _shares(quality: Quality) -> list[str]:
    return [f"{quality.f1:.3f}", f"{quality.precision:.3f}", f"{quality.recall:.3f}"]


def _speed(title: str, pages: Sequence[str]) -> Table:
    def one_by_one(extractor: Extractor) -> None:
        for html in pages:
            extractor(html)

    contents = [html.encode(errors="replace") for html in pages]
    rows = [{"content": content, "content_type": "text/html", "url": "", "collected_at": None} for content in contents]
    task = CleanHtml.model_validate({"pages": "pages"})
    batches = list(batches_of(rows, task.extractor))
    decoded = [[str(row["content"], "utf-8") for row in batch] for batch in batches]
    work: dict[str, Callable[[], object]] = {
        "athanor": lambda: [extract_each(batch) for batch in decoded],
        "athanor, page by page": partial(one_by_one, EXTRACTORS["athanor"]),
        "athanor, all of `clean_html`": lambda: [clean_pages(task, batch) for batch in batches],
    }
    work |= {name: partial(one_by_one, EXTRACTORS[name]) for name in EXTRACTORS if name != "athanor"}
    seconds = compare(work)
    size = sum(map(len, contents))
    return Table(
        title,
        ("extractor", "pages/s", "MB/s", "of trafilatura's speed", "of resiliparse's"),
        [
            [
                name,
                rate(len(pages), spent),
                rate(size / 1e6, spent),
                ratio(seconds["trafilatura"], spent),
                ratio(seconds["resiliparse, main content"], spent),
            ]
            for name, spent in seconds.items()
        ],
        (
            f"{len(pages)} pages of {size / len(pages) / 1e3:.0f} KB on average, already decoded, in batches as "
            "`clean_html` makes them. All of `clean_html` is more than the others do: decoding, extraction, what the "
            "page says about itself, and repair of the Unicode.",
        ),
    )
