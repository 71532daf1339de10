"""Token files of nanoGPT and Megatron become shards and come out again."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from storage import token_files
from storage.errors import SourceError, StepFailed
from storage.shards import Shards
from storage.token_files import MegatronFile, NanoGPTFile, Range, export_tokens
from storage.tokenizer import Tokenizer
from tasks import import_tokens
from tasks.import_tokens import ImportTokens
from tests.helpers import Outcome, run_task
from tests.made import made_shards, made_tokenizer

TEXTS = {
    "train": ["The end.", "", "床前明月光", "def f(x):\n    return 1\n" * 9, "a"],
    "validation": ["held out", "疑是地上霜"],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return made_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text).tolist() for text in texts]


def imported(tmp_path: Path, tokenizer: Tokenizer, name: str = "step", **given: Any) -> Outcome:
    workers = given.pop("workers", 1)
    task = ImportTokens(tokenizer="tokenizer", **given)
    return run_task(task, {"tokenizer": tokenizer}, tmp_path, name=name, workers=workers)


def texts_of(shards: Shards, split: str) -> list[str]:
    part = shards.split(split)  # type: ignore[arg-type]
    return [shards.tokenizer.decode(part.document(number)) for number in range(part.documents)]


def write_megatron(path: Path, documents: list[list[list[int]]], code: int = 8, modes: bool = False) -> None:
    """Written from the description of the format alone, with Python's struct."""
    dtype = {8: "<u2", 4: "<i4", 5: "<i8"}[code]
    sequences = [sequence for document in documents for sequence in document]
    path.with_suffix(".bin").write_bytes(b"".join(np.array(s, dtype).tobytes() for s in sequences))
    bounds, pointers = [0], [0]
    for document in documents:
        bounds.append(bounds[-1] + len(document))
    for sequence in sequences:
        pointers.append(pointers[-1] + len(sequence) * np.dtype(dtype).itemsize)
    content = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, code, len(sequences), len(bounds))
    content += struct.pack(f"<{len(sequences)}i", *map(len, sequences))
    content += struct.pack(f"<{len(sequences)}q", *pointers[:-1]) + struct.pack(f"<{len(bounds)}q", *bounds)
    path.with_suffix(".idx").write_bytes(content + (bytes(len(sequences)) if modes else b""))


def read_megatron(path: Path) -> list[list[int]]:
    """An independent reader: one list a document."""
    index, data = path.with_suffix(".idx").read_bytes(), path.with_suffix(".bin").read_bytes()
    magic, version, code, sequences, boundaries = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\0\0", 1)
    letter, width = {8: ("H", 2), 4: ("i", 4)}[code]
    lengths = struct.unpack_from(f"<{sequences}i", index, 34)
    pointers = struct.unpack_from(f"<{sequences}q", index, 34 + 4 * sequences)
    bounds = struct.unpack_from(f"<{boundaries}q", index, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * boundaries
    assert sum(lengths) * width == len(data)
    return [
        [token for s in range(a, b) for token in struct.unpack_from(f"<{lengths[s]}{letter}", data, pointers[s])]
        for a, b in pairwise(bounds)
    ]


def test_nanogpt_files_become_documents(tmp_path: Path, tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_id
    for file, split in (("train", "train"), ("val", "validation")):
        ids = [token for document in ids_of(tokenizer, TEXTS[split]) for token in [*document, end]]
        np.array(ids, np.uint16).tofile(tmp_path / f"{file}.bin")
    outcome = imported(tmp_path, tokenizer, format="nanogpt", train="train.bin", validation=["val.bin"])
    shards = outcome.artifact
    assert isinstance(shards, Shards)
    for split, texts in TEXTS.items():
        assert texts_of(shards, split) == texts
        assert shards.split(split).utf8_bytes == sum(len(text.encode()) for text in texts)  # type: ignore[arg-type]
    document = shards.split("train").document(0)
    assert (document[0], document[-1], document.dtype) == (tokenizer.bos_id, end, np.uint16)
    assert outcome.result.metrics["validation.documents"] == 2
    assert outcome.result.counts["documents"] == 7
    ids = [*shards.split("train").ids, *shards.split("validation").ids]
    assert len(set(ids)) == 7


def test_a_file_without_end_tokens_is_one_document(tmp_path: Path, tokenizer: Tokenizer) -> None:
    np.array(tokenizer.encode("one long text"), np.uint32).tofile(tmp_path / "a.bin")
    outcome = imported(tmp_path, tokenizer, format="nanogpt", train="a.bin", dtype="uint32")
    assert texts_of(outcome.artifact, "train") == ["one long text"]  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [8, 4, 5])
def test_megatron_documents_are_all_their_sequences(tmp_path: Path, tokenizer: Tokenizer, code: int) -> None:
    end, begin = tokenizer.eos_id, tokenizer.bos_id
    first, second, third = ids_of(tokenizer, ["a b c", "d", "e f"])
    documents = [[first[:2], first[2:]], [], [[*second, end]], [[begin, *third, end]]]
    write_megatron(tmp_path / "corpus_text_document", documents, code, modes=code == 4)
    outcome = imported(tmp_path, tokenizer, format="megatron", train="*_document.bin")
    assert texts_of(outcome.artifact, "train") == ["a b c", "", "d", "e f"]  # type: ignore[arg-type]
    lengths = outcome.artifact.split("train").lengths.tolist()  # type: ignore[attr-defined]
    assert lengths == [7, 2, 3, 5]


@pytest.mark.parametrize("form", ["nanogpt", "megatron"])
def test_what_is_exported_comes_back(tmp_path: Path, tokenizer: Tokenizer, form: str) -> None:
    shards = made_shards(tmp_path / "shards", tokenizer, TEXTS)
    assert export_tokens(shards, tmp_path / "out", form) == (2 if form == "nanogpt" else 4)  # type: ignore[arg-type]
    held = "out/val.bin" if form == "nanogpt" else "out/validation.bin"
    outcome = imported(tmp_path, tokenizer, format=form, train="out/train.bin", validation=held)
    back = outcome.artifact
    assert isinstance(back, Shards)
    for split in TEXTS:
        one, other = shards.split(split), back.split(split)  # type: ignore[arg-type]
        assert [one.document(n).tolist() for n in range(one.documents)] == [
            other.document(n).tolist() for n in range(other.documents)
        ]
        assert one.utf8_bytes == other.utf8_bytes


def test_exports_are_what_their_trainers_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    shards = made_shards(tmp_path / "shards", tokenizer, TEXTS)
    wanted = [[*ids, tokenizer.eos_id] for ids in ids_of(tokenizer, TEXTS["train"])]
    export_tokens(shards, tmp_path / "nanogpt", "nanogpt")
    flat = np.memmap(tmp_path / "nanogpt" / "train.bin", np.uint16, mode="r")
    assert flat.tolist() == [token for document in wanted for token in document]
    export_tokens(shards, tmp_path / "megatron", "megatron")
    assert read_megatron(tmp_path / "megatron" / "train.bin") == wanted


def test_large_vocabularies_are_exported_in_32_bits(tmp_path: Path) -> None:
    tokenizer = made_tokenizer(tmp_path / "tokenizer", extra=[f"unused{n}" for n in range(66_000)])
    shards = made_shards(tmp_path / "shards", tokenizer, {"train": ["text"]})
    for form in ("nanogpt", "megatron"):
        export_tokens(shards, tmp_path / form, form)  # type: ignore[arg-type]
    assert (tmp_path / "nanogpt" / "train.bin").stat().st_size == 4 * 5
    assert read_megatron(tmp_path / "megatron" / "train.bin") == [[*tokenizer.encode("text").tolist(), 2]]


def test_parts_of_a_file_make_the_same_documents(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = ids_of(tokenizer, [f"document {number} " * (number % 7) for number in range(60)])
    np.array([t for d in documents for t in [*d, tokenizer.eos_id]], np.uint16).tofile(tmp_path / "a.bin")
    write_megatron(tmp_path / "b", [[document] for document in documents])
    given = {"validation_fraction": 0.3}
    for form, file in (("nanogpt", "a.bin"), ("megatron", "b.bin")):
        whole = imported(tmp_path, tokenizer, f"whole-{form}", format=form, train=file, **given).artifact
        with monkeypatch.context() as patch:
            patch.setattr(import_tokens, "_PARTITION_TOKENS", 100)
            cut = imported(tmp_path, tokenizer, f"cut-{form}", format=form, train=file, **given).artifact
        assert len(cut.names("train-*.arrow")) > 5
        for split in TEXTS:
            one, other = whole.split(split), cut.split(split)  # type: ignore[attr-defined]
            assert one.ids == other.ids
            assert [one.document(n).tolist() for n in range(one.documents)] == [
                other.document(n).tolist() for n in range(other.documents)
            ]
        assert 5 < whole.split("validation").documents < 35  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=50), st.integers(1, 20))
def test_every_token_is_in_one_document(tmp_path_factory: pytest.TempPathFactory, ids: list[int], size: int) -> None:
    path = tmp_path_factory.mktemp("ids") / "a.bin"
    np.array(ids, np.uint16).tofile(path)
    file = NanoGPTFile(path, "uint16", 0)
    found = [(place, pieces[0].tolist()) for part in file.ranges(size) for place, pieces in file.documents(part)]
    wanted, current, start = [], [], 0
    for place, token in enumerate(ids):
        if token == 0:
            wanted.append((start, current))
            current, start = [], place + 1
        else:
            current.append(token)
    assert found == wanted + ([(start, current)] if current else [])


def test_malformed_files_are_one_line(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def fails(match: str, form: str = "megatron", **given: Any) -> None:
        with pytest.raises(SourceError, match=match) as error:
            imported(tmp_path, tokenizer, format=form, train="a.bin", **given)
        assert "\n" not in str(error.value)

    (tmp_path / "a.bin").write_bytes(b"123")
    fails("3 bytes are no uint16 ids", "nanogpt")
    (tmp_path / "a.bin").write_bytes(b"")
    fails("0 bytes are no uint16 ids", "nanogpt")
    np.array([5, 60_000], np.uint16).tofile(tmp_path / "a.bin")
    fails("document at 0 has the id 60000, but the tokenizer has 260", "nanogpt")
    fails("needs its .idx beside it")
    with pytest.raises(SourceError, match=r"no file 'nothing\.bin'"):
        imported(tmp_path, tokenizer, format="nanogpt", train="nothing.bin")
    with pytest.raises(ValidationError, match=r"at least one \.bin"):
        ImportTokens(format="nanogpt", train=[], tokenizer="tokenizer")  # type: ignore[arg-type]

    write_megatron(tmp_path / "a", [[[5, 6, 7]], [[8]]])
    sound, index = (tmp_path / "a.idx").read_bytes(), tmp_path / "a.idx"
    for content, message in (
        (b"TNTIDX\0\0" + sound[8:], "not an index of Megatron's"),
        (sound[:20], "not an index of Megatron's"),
        (sound[:9] + struct.pack("<Q", 2) + sound[17:], "version 2"),
        (sound[:17] + b"\x06" + sound[18:], "type 6"),
        (sound[:18] + struct.pack("<Q", 2**62) + sound[26:], "its header promises"),
        (sound[:26] + struct.pack("<Q", 2**61) + sound[34:], "its header promises"),
        (sound[:-3], "its header promises"),
        (sound[:34] + struct.pack("<i", -1) + sound[38:], "sequence 0 does not lie within a.bin"),
        (sound[:34] + struct.pack("<i", 400) + sound[38:], "sequence 0 does not lie within a.bin"),
        (sound[:50] + struct.pack("<q", 2**62) + sound[58:], "sequence 1 does not lie within a.bin"),
        (sound[:50] + struct.pack("<q", 3) + sound[58:], "sequence 1 does not lie within a.bin"),
        (sound[:-8] + struct.pack("<q", 1), "do not add up"),
        (sound[:-16] + struct.pack("<qq", -(2**63), 2), "do not add up"),
    ):
        index.write_bytes(content)
        fails(message)
    index.write_bytes(sound)
    assert texts_of(imported(tmp_path, tokenizer, format="megatron", train="a.bin").artifact, "train")  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_changed_byte_of_an_index_does_harm(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("changed") / "a.bin"
    write_megatron(path, [[[5, 6, 7], [9]], [[8]]])
    content = bytearray(path.with_suffix(".idx").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.with_suffix(".idx").write_bytes(bytes(content))
    try:
        file = MegatronFile(path)
    except SourceError:
        return
    for part in file.ranges(2):
        for _, pieces in file.documents(part):
            assert sum(map(len, pieces)) <= 30


def test_nothing_to_train_on_fails(tmp_path: Path, tokenizer: Tokenizer) -> None:
    np.array([7, 8], np.uint16).tofile(tmp_path / "a.bin")
    with pytest.raises(StepFailed, match="no document is left to train on"):
        imported(tmp_path, tokenizer, format="nanogpt", train="a.bin", validation_fraction=0.9999999)


def test_where_the_files_lie_is_no_part_of_the_identity(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        np.array([7, 8, 2, 9], np.uint16).tofile(tmp_path / folder / "a.bin")
    tasks = [ImportTokens(format="nanogpt", train=f"{f}/a.bin", tokenizer="tokenizer") for f in ("x", "y")]  # type: ignore[arg-type]
    assert tasks[0].settings() == tasks[1].settings()
    made = [imported(tmp_path, tokenizer, f, format="nanogpt", train=f"{f}/a.bin") for f in ("x", "y")]
    assert made[0].artifact.digest == made[1].artifact.digest


def test_ranges_cover_every_document_once(tmp_path: Path) -> None:
    write_megatron(tmp_path / "a", [[[1] * n] for n in (5, 0, 0, 3, 9, 1)])
    parts = MegatronFile(tmp_path / "a.bin").ranges(4)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0], parts[-1].stop) == (Range(0, parts[0].stop), 6)
    assert token_files.FORMATS == ("nanogpt", "megatron")
