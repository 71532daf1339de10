"""Pages from WARC and ARC files: what is a page, and what becomes of every fault."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastwarc.stream_io import BrotliWriter, ZstdWriter, zstd_train_dictionary_from_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sources.base import Bad, Page
from tasks.sources.warc.source import Warc
from tests.helpers import SHARED
from tests.tasks.sources.archives import (
    ARC_HEAD,
    INFO,
    Made,
    bad,
    gzipped,
    lz4,
    members,
    pages,
    passed,
    take,
    write,
    zstd,
)

RECORDS = [Made(f"https://a.example/{n}", f"<p>页面 {n} {'words ' * 50}</p>".encode()) for n in range(5)]
URLS = [record.url for record in RECORDS]


def _urls(folder: Path, content: bytes, name: str = "x.warc") -> tuple[list[str], dict[str, str]]:
    write(folder, {name: content})
    items = take(Warc(path=name), folder)
    return [item.url for item in items if isinstance(item, Page)], bad(items)


def test_a_page_carries_what_its_record_says(tmp_path: Path) -> None:
    record = Made(
        "https://a.example/页?q=1",
        "<p>中文</p>".encode("gb18030"),
        headers={"content-TYPE": "text/html; charset=gb18030"},
    )
    write(tmp_path, {"x.warc.gz": b"".join(members([record]))})
    (page,) = take(Warc(path="x.warc.gz"), tmp_path)
    assert page == Page(
        "https://a.example/页?q=1",
        "<p>中文</p>".encode("gb18030"),
        "text/html; charset=gb18030",
        datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    "pack", [gzipped, zstd, lz4, bz2.compress, lzma.compress, bytes], ids=["gz", "zst", "lz4", "bz2", "xz", "plain"]
)
@pytest.mark.parametrize("apart", [True, False])
def test_every_compression_gives_the_same_pages_whatever_the_file_is_called(
    tmp_path: Path, pack: object, apart: bool
) -> None:
    assert callable(pack)
    content = b"".join(members(RECORDS, pack)) if apart else pack(b"".join(members(RECORDS, bytes)))
    assert _urls(tmp_path, content) == (URLS, {})


def test_a_dictionary_for_zstandard_is_used(tmp_path: Path) -> None:
    samples = [Made(f"https://a.example/{n}", b"<p>much the same</p>" * (n % 7)).warc() for n in range(200)]
    trained = zstd_train_dictionary_from_samples(samples, 4096)
    frames = []
    for record in RECORDS:
        with ZstdWriter(str(tmp_path / "frame"), dictionary=trained) as writer:
            writer.write(record.warc())
        frames.append((tmp_path / "frame").read_bytes())
    dictionary = b"\x5d\x2a\x4d\x18" + len(trained).to_bytes(4, "little") + trained
    write(tmp_path, {"x.warc.zst": dictionary + b"".join(frames)})
    assert list(pages(take(Warc(path="x.warc.zst"), tmp_path))) == URLS


def test_what_is_no_page_is_counted_or_silent(tmp_path: Path) -> None:
    html = {"Content-Type": "text/html"}
    records = [
        Made("https://a/ok", status=206, headers=html),
        Made("https://a/moved", status=301, headers=html),
        Made("https://a/gone", status=404, headers=html),
        Made("https://a/picture", b"\x89PNG", headers={"Content-Type": "image/png"}),
        Made("https://a/empty", b" \n", headers=html),
        Made("https://a/large", b"x" * 5000, headers=html),
        Made("https://a/bomb", gzipped(b"x" * 500_000), headers=html | {"Content-Encoding": "gzip"}),
        Made("https://a/untyped", b"<html><body>words</body></html>", headers={}),
        Made("https://a/untyped.png", b"\x89PNG\r\n", headers={}),
        Made("dns:a", b"192.0.2.1", type="resource", warc_headers={"Content-Type": "text/plain"}),
        Made("https://a/asked", type="request"),
        Made("https://a/again", b"", type="revisit"),
        Made("https://a/resource", "文".encode(), type="resource", warc_headers={"Content-Type": "text/plain"}),
        Made("https://a/wet", b"words", type="conversion", warc_headers={"Content-Type": "text/plain"}),
    ]
    write(tmp_path, {"x.warc.gz": b"".join(members(records))})
    items = take(Warc(path="x.warc.gz", max_page_bytes=4000), tmp_path)
    assert list(pages(items)) == ["https://a/ok", "https://a/untyped", "https://a/resource", "https://a/wet"]
    assert Counter(passed(items).values()) == {"status": 2, "not_a_page": 3, "empty": 1, "too_large": 2}
    assert bad(items) == {}
    chosen = Warc(path="x.warc.gz", statuses=[404], records=["response"], content_types=["text/html"])
    assert list(pages(take(chosen, tmp_path))) == ["https://a/gone"]


def test_arc_files_are_read(tmp_path: Path) -> None:
    parts = [ARC_HEAD, *(record.arc() for record in RECORDS)]
    write(tmp_path, {"x.arc.gz": b"".join(map(gzipped, parts)), "y.arc": b"".join(parts)})
    for name in ("x.arc.gz", "y.arc"):
        found = pages(take(Warc(path=name), tmp_path))
        assert list(found) == URLS
        assert found[URLS[1]].content == RECORDS[1].body
        assert found[URLS[1]].collected_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert _urls(tmp_path, b"".join(parts)[:-9], "cut.arc") == (URLS[:-1], {f"cut.arc:{_place(parts, 5)}": "truncated"})


def test_second_version_of_arc(tmp_path: Path) -> None:
    head = b"filedesc://x.arc 0.0.0.0 20240101000000 text/plain 200 - - 0 x.arc 20\n2 0 Someone\nURL IP-a\n\n"
    body = RECORDS[0].http()
    line = f"https://a.example/with space 192.0.2.1 20240506070809 text/html 200 - - 5 x.arc {len(body)}\n".encode()
    assert _urls(tmp_path, head + line + body + b"\n", "x.arc")[0] == ["https://a.example/with space"]


def _place(parts: list[bytes], number: int) -> int:
    return sum(map(len, parts[:number]))


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), pack=st.sampled_from([gzipped, bytes, zstd, lz4]))
def test_a_file_cut_anywhere_gives_all_whole_records_and_one_fault(
    tmp_path_factory: pytest.TempPathFactory, share: float, pack: object
) -> None:
    parts = members(RECORDS, pack)
    content = b"".join(parts)
    cut = int(share * len(content))
    ends = [_place(parts, number + 1) for number in range(len(parts))]
    urls, faults = _urls(tmp_path_factory.mktemp("cut"), content[:cut])
    whole = sum(end <= cut for end in ends)
    # Of a record that lacks only what follows its block (line ends, a checksum), the block may be there.
    assert urls[: max(0, whole - 1)] == URLS[: max(0, whole - 1)]
    assert len(urls) - max(0, whole - 1) in (0, 1)
    if cut in (0, *ends):
        assert (len(urls), faults) == (max(0, whole - 1), {})
    else:
        assert list(faults.values()) in (["truncated"], ["framing"], ["corrupt"])


def _with_length(record: bytes, line: bytes) -> bytes:
    return re.sub(rb"Content-Length: \d+", line, record)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda member: member[:30] + b"\xff" * 20 + member[50:], "corrupt"),
        (lambda member: member[:-8] + bytes(8), "corrupt"),
        (lambda member: b"\x1f\x8b" + member[2:40], "corrupt"),
        (lambda member: gzipped(_with_length(gzip.decompress(member), b"Content-Length: -1")), "framing"),
        (lambda member: gzipped(_with_length(gzip.decompress(member), b"Content-Length: 99")), "framing"),
        (lambda member: gzipped(b"no record at all\r\n"), "framing"),
    ],
)
def test_a_broken_member_costs_no_other_record(tmp_path: Path, broken: object, reason: str) -> None:
    assert callable(broken)
    parts = members(RECORDS)
    place = _place(parts, 3)
    parts[3] = broken(parts[3])
    urls, faults = _urls(tmp_path, b"".join(parts))
    assert urls == [*URLS[:2], *URLS[3:]]
    assert faults == {f"x.warc:{place}": reason}


def test_a_wrong_length_in_a_plain_file_costs_few_records(tmp_path: Path) -> None:
    parts = members(RECORDS, bytes)
    for length in (b"Content-Length: 99", b"Content-Length: 999", b"Content-Length: 99999999999999999999", b"Lend: 1"):
        broken = [*parts[:3], _with_length(parts[3], length), *parts[4:]]
        urls, faults = _urls(tmp_path, b"".join(broken))
        assert urls[:2] == URLS[:2]
        assert set(urls) <= set(URLS)
        assert next(iter(faults)) == f"x.warc:{_place(parts, 3)}"
    urls, faults = _urls(tmp_path, b"".join([*parts[:3], b"\r\nnoise\r\n" * 99, *parts[3:]]))
    assert (urls, list(faults.values())) == (URLS, ["framing"])


def test_what_is_no_archive_is_one_fault(tmp_path: Path) -> None:
    for content in (
        b"<html>" * 9999,
        bytes(99),
        b"WARC/1.0",
        b"WARC/1.0\r\n" + b"a: b\r\n" * 5000,
        b"\x1f\x8b",
        gzipped(b"x" * 99),
    ):
        urls, faults = _urls(tmp_path, content)
        assert urls == []
        assert len(faults) == 1
    assert _urls(tmp_path, b"") == ([], {})
    assert _urls(tmp_path, INFO.warc()) == ([], {})


HTML = b"<html><body><p>" + b"many words " * 99 + b"</p></body></html>"


def _chunked(*chunks: bytes) -> bytes:
    return b"".join(f"{len(chunk):x};x=y\r\n".encode() + chunk + b"\r\n" for chunk in (*chunks, b""))


def _brotli(content: bytes, folder: Path) -> bytes:
    with BrotliWriter(str(folder / "brotli")) as writer:
        writer.write(content)
    return (folder / "brotli").read_bytes()


def test_encodings_of_the_transport_are_undone(tmp_path: Path) -> None:
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "chunked": _chunked(HTML[:9], HTML[9:100], HTML[100:]),
        "gzip": gzipped(HTML),
        "deflate": zlib.compress(HTML),
        "deflate ": raw.compress(HTML) + raw.flush(),
        "br": _brotli(HTML, tmp_path),
        "gzip,chunked": _chunked(gzipped(HTML)),
        "chunked, gzip, br": _chunked(_brotli(gzipped(HTML), tmp_path)),
        # What a crawler has undone is taken as it is.
        " chunked": HTML,
        " gzip": HTML,
        " deflate": HTML,
        " br": HTML,
    }
    records = []
    for number, (said, body) in enumerate(bodies.items()):
        transfer = {"Transfer-Encoding": "chunked"} if "chunked" in said else {}
        coding = ",".join(part.strip() for part in said.split(",") if "chunked" not in part)
        headers = {"Content-Type": "text/html", **transfer} | ({"Content-Encoding": coding} if coding else {})
        records.append(Made(f"https://a/{number}", body, headers=headers))
    write(tmp_path, {"x.warc.gz": b"".join(members(records))})
    items = take(Warc(path="x.warc.gz"), tmp_path)
    assert [page.content for page in pages(items).values()] == [HTML] * len(bodies)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({"Transfer-Encoding": "chunked"}, _chunked(HTML[:99], HTML[99:])[:-9], "truncated"),
        ({"Transfer-Encoding": "chunked"}, _chunked(HTML[:99], HTML[99:])[:50], "truncated"),
        ({"Transfer-Encoding": "chunked"}, _chunked(b"ab", b"cd", b"ef").replace(b"2;x=y\r\nef", b"zz"), "bad_chunks"),
        ({"Content-Encoding": "gzip"}, gzipped(HTML)[:-20], "truncated"),
        ({"Content-Encoding": "gzip"}, gzipped(HTML)[:10] + b"\xff" * 99, "corrupt"),
        ({"Content-Encoding": "br"}, b"\xff\xff\xff\xff", "corrupt"),
        ({"Content-Encoding": "rot13"}, HTML, "encoding"),
    ],
)
def test_a_body_that_cannot_be_decoded_is_quarantined(
    tmp_path: Path, headers: dict[str, str], body: bytes, reason: str
) -> None:
    wrong = Made("https://a/wrong", body, headers={"Content-Type": "text/html"} | headers)
    write(tmp_path, {"x.warc.gz": b"".join(members([RECORDS[0], wrong, RECORDS[1]]))})
    items = take(Warc(path="x.warc.gz"), tmp_path)
    assert list(pages(items)) == URLS[:2]
    assert list(bad(items).values()) == [reason]
    (fault,) = [item for item in items if isinstance(item, Bad)]
    assert "https://a/wrong" in fault.detail


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"WARC/1.0\r\n", b"filedesc://", INFO.warc(), b"\x1f\x8b\x08", RECORDS[0].warc()]),
)
def test_no_bytes_crash_it(tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: bytes) -> None:
    folder = tmp_path_factory.mktemp("noise")
    _urls(folder, start + noise)
    _urls(folder, gzipped(start + noise))
    _urls(
        folder, Made("https://a/x", noise, headers={"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}).warc()
    )


REAL = SHARED / "warc"


@pytest.mark.skipif(not REAL.exists(), reason=f"real WARC files are not at {REAL}")
@pytest.mark.parametrize(
    ("name", "count", "faults"),
    [
        ("aut/example.warc.gz", 129, []),
        ("resiliparse/warcfile.warc", 16, []),
        ("resiliparse/warcfile.warc.gz", 16, []),
        ("resiliparse/warcfile.warc.lz4", 16, []),
        ("resiliparse/block-sized-records.warc.lz4", 0, []),
        ("resiliparse/clueweb-quirk.warc.gz", 29, []),
        ("resiliparse/clipped.warc.gz", 0, ["truncated"]),
        ("warcio/example.warc", 1, []),
        ("warcio/example-iana.org-chunked.warc", 1, []),
        ("warcio/example-wrong-chunks.warc.gz", 1, []),
        ("warcio/example-bad-non-chunked.warc.gz", 1, []),
        ("warcio/example-bad.warc.gz.bad", 1, []),
        ("warcio/example-trunc.warc", 0, ["framing"]),
        ("warcio/example-resource.warc.gz", 1, []),
        ("warcio/example-wget-bad-target-uri.warc.gz", 1, []),
    ],
)
def test_real_files(name: str, count: int, faults: list[str]) -> None:
    items = take(Warc(path=str(REAL / name)), REAL)
    assert len(pages(items)) == count
    assert list(bad(items).values()) == faults
    assert all(url.startswith("http") for url in pages(items))


@pytest.mark.skipif(not REAL.exists(), reason=f"real WARC files are not at {REAL}")
def test_real_pages_are_those_that_fastwarc_reads() -> None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    for name in ("aut/example.warc.gz", "resiliparse/warcfile.warc.gz", "warcio/example.warc.gz"):
        expected = {}
        with (REAL / name).open("rb") as file:
            for record in ArchiveIterator(
                file, record_types=WarcRecordType.response, auto_decode="all", strict_mode=False
            ):
                if record.http_content_type in ("text/html", "text/plain", "application/xhtml+xml"):
                    expected[record.headers["WARC-Target-URI"].strip("<>")] = record.reader.read()
        for url, page in pages(take(Warc(path=str(REAL / name)), REAL)).items():
            assert page.content == expected[url]
