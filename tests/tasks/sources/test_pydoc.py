"""The standard library's pages hold nothing of the machine, the user, or the run."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import sysconfig
from pathlib import Path

import pytest

from tasks.context import PlainWorld
from tasks.sources.base import Page
from tasks.sources.pydoc import Pydoc, rendered


def _pages() -> dict[str, bytes]:
    return {page.url: page.content for page in Pydoc().pages(PlainWorld(Path("/"))) if isinstance(page, Page)}


@pytest.fixture(scope="module")
def pages() -> dict[str, bytes]:
    return _pages()


def test_it_is_a_corpus_of_real_pages(pages: dict[str, bytes]) -> None:
    assert 180 <= len(pages) <= 240
    assert 7e6 < sum(map(len, pages.values())) < 14e6
    assert list(pages) == sorted(pages)
    assert b"Return the sorted list of" in pages["bisect.html"] or b"bisect" in pages["bisect.html"]
    assert b"copyfile" in pages["shutil.html"]
    assert not {"this.html", "antigravity.html", "idlelib.html", "test.html"} & set(pages)


def test_bytes_are_the_same_in_another_folder_with_another_environment(
    pages: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Modules that would shadow the library's, were the current folder or PYTHONPATH looked at.
    (tmp_path / "argparse.py").write_text("'''an impostor'''")
    odd = {
        "HOME": "/somewhere/odd",
        "USER": "Zebedee",
        "PYTHONPATH": str(tmp_path),
        "PYTHONHASHSEED": "99",
        "TZ": "Asia/Tokyo",
    }
    odd |= {
        "LANG": "de_DE.UTF-8",
        "PYTHONDOCS": "https://odd.example/",
        "TMPDIR": str(tmp_path),
        "ODD_TOKEN": "xyzzy-plugh",
    }
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert _pages() == pages


def test_nothing_of_this_machine_is_in_them(pages: dict[str, bytes]) -> None:
    whole = b"\n".join(pages.values()).decode()
    telling = {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        str(Path.home()),
        os.getcwd(),
        sys.executable,
        sys.prefix,
        sys.version,
        f"{socket.gethostname()}.",
    }
    telling |= {value for value in os.environ.values() if len(value) > 12}
    if len(getpass.getuser()) > 5:
        telling.add(getpass.getuser())
    # Folders such as /usr/local are named in docstrings everywhere.
    telling = {text for text in telling if len(text) > 5 and text not in ("/usr/local", "/usr/bin")}
    assert not {text for text in telling if text in whole}
    assert "at&nbsp;0x" not in whole
    assert " at 0x" not in whole
    assert "file:" not in pages["shutil.html"].decode()


def test_data_of_the_machine_is_shown_by_type(pages: dict[str, bytes]) -> None:
    assert b"<strong>environ</strong> = &lt;_Environ&gt;" in pages["os.html"]
    assert b"<strong>executable</strong> = &lt;str&gt;" in pages["sys.html"]
    assert b"<strong>ENOENT</strong> = 2" in pages["errno.html"]
    assert b"OPENSSL_VERSION</strong> = &lt;str&gt;" in pages.get("ssl.html", b"OPENSSL_VERSION</strong> = &lt;str&gt;")


def test_pairs_say_what_things_do_once_at_home() -> None:
    pairs = {module: line["pairs"] for line in rendered("pairs") if "pairs" in line for module in [line["module"]]}
    assert sum(map(len, pairs.values())) > 3000
    by_name = {name: (kind, signature, summary) for lines in pairs.values() for kind, name, signature, summary in lines}
    kind, signature, summary = by_name["shutil.copyfile"]
    assert (kind, signature) == ("function", "(src, dst, *, follow_symlinks=True)")
    assert summary.startswith("Copy data from src to dst")
    assert all(
        name == module or name.startswith(f"{module}.") for module, lines in pairs.items() for _, name, _, _ in lines
    )
    # Defined in one place and shown in others: only where it is at home.
    assert "collections.abc.Mapping" not in by_name or "typing.Mapping" not in by_name
    assert not [name for name in by_name if by_name[name][2].startswith("Initialize self")]
    assert not [text for _, signature, text in by_name.values() if " at 0x" in signature + text]


def test_a_limited_reading_ends_the_renderer() -> None:
    lines = rendered("pages")
    first = next(lines)
    lines.close()
    assert first["module"] < "b"
