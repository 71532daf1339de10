"""Reading batches from token shards: tokens a second, and the time to begin on many shards, beside nanoGPT's method.

nanoGPT keeps a split as one flat file of 16-bit ids and cuts windows out of it at random: its
sequences begin and end anywhere in a document, hold several without a border between them, and
some tokens are read twice in a pass, others never. That is written out here in a few lines, from
its ``get_batch``. Ours packs whole documents and tells the network where each begins.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Table, compare, rate, ratio
from model.data.batches import collate
from model.data.order import Order
from model.data.shard_rows import ShardRows
from storage.shard_index import index_of, write_index
from storage.shards import Shards, write_shard

CONTEXTS = (1024, 4096)
BATCH_TOKENS = 65_536
BATCHES = 150
MEAN_TOKENS = (200, 1_000)
"""Of a document: short ones make more pieces a sequence."""
SHARDS, DOCUMENTS = 10_000, 64
"""As many shards, of as many documents each, as a corpus of 640,000 pages has."""
FILES_READ = 200
"""So many shard files hold what is read in the measure of speed: some 100 MB, which stay in memory."""


def measure() -> list[Table]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        return [_speed(Path(folder)), _start(Path(folder))]


def made_shards(folder: Path, files: int, mean: float, seed: int = 0) -> Shards:
    """Documents of log-normal lengths, of that mean."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    entries = {}
    for number in range(files):
        lengths = random.lognormal(np.log(mean) - 0.5, 1.0, DOCUMENTS).astype(np.int64) + 3
        tokens = random.integers(3, 32_000, int(lengths.sum()), dtype=np.uint16)
        documents = np.split(tokens, np.cumsum(lengths)[:-1])
        name = f"train-{number:05}.arrow"
        write_shard(folder / name, [str(n) for n in range(DOCUMENTS)], documents, [0] * DOCUMENTS, "uint16")
        entries[name] = (lengths, 0)
    write_index(folder, index_of(entries))
    return Shards.of_folder(folder)


def _speed(folder: Path) -> Table:
    rows = []
    for mean in MEAN_TOKENS:
        # About as many tokens in either case.
        shards = made_shards(folder / f"mean-{mean}", FILES_READ * 1_000 // mean, mean)
        flat = folder / f"mean-{mean}.bin"
        split = shards.split("train")
        flat.write_bytes(b"".join(file.values.tobytes() for file in split.files))
        for context in CONTEXTS:
            part = ShardRows(split, context)
            seconds = compare(
                {
                    "ours": lambda part=part, context=context: _read(Order([part], [1.0], seed=1), context),
                    "mixture": lambda part=part, context=context: _read(
                        Order([part, part, part], [0.7, 0.2, 0.1], seed=1), context
                    ),
                    "nanogpt": lambda flat=flat, context=context: _read_windows(flat, context),
                },
                rounds=5,
            )
            tokens = BATCHES * BATCH_TOKENS
            filled = int(np.maximum(split.lengths.astype(np.int64) - 1, 0).sum()) / (len(part) * context)
            rows.append(
                [
                    f"{mean:,}",
                    f"{context:,}",
                    *(f"{rate(tokens / 1e6, seconds[name])} M" for name in ("ours", "mixture", "nanogpt")),
                    ratio(seconds["nanogpt"], seconds["ours"]),
                    f"{1 - filled:.3%}",
                ]
            )
    return Table(
        title="Reading batches: tokens a second",
        columns=["mean tokens", "context", "one part", "three parts", "nanoGPT's method", "ours to its", "padding"],
        rows=rows,
        notes=[
            f"{BATCHES} batches of {BATCH_TOKENS:,} tokens, from memory-mapped files in memory, one process. Ours are "
            "int64 tensors of inputs, targets, documents and positions; nanoGPT's of inputs and targets, from windows "
            "at random places. What is padding is counted as read; its share is in the last column."
        ],
    )


def _read(order: Order, context: int) -> None:
    sequences = BATCH_TOKENS // context
    for number in range(BATCHES):
        collate(order.read(number * sequences, sequences), context)


def _read_windows(path: Path, context: int) -> None:
    """What nanoGPT's ``get_batch`` does (train.py), for as many batches."""
    sequences = BATCH_TOKENS // context
    generator = torch.Generator().manual_seed(1)
    for _ in range(BATCHES):
        data = np.memmap(path, dtype=np.uint16, mode="r")
        places = torch.randint(len(data) - context, (sequences,), generator=generator).tolist()
        torch.stack([torch.from_numpy(data[at : at + context].astype(np.int64)) for at in places])
        torch.stack([torch.from_numpy(data[at + 1 : at + 1 + context].astype(np.int64)) for at in places])


def _start(folder: Path) -> Table:
    """Seconds from a manifest to the first batch."""
    made = made_shards(folder / "many", SHARDS, 50)
    rows = []
    for context in CONTEXTS:
        times = []
        for _ in range(3):
            began = time.process_time()
            shards = Shards(made.folder, made.manifest)
            order = Order([ShardRows(shards.split("train"), context)], [1.0], seed=1)
            collate(order.read(0, BATCH_TOKENS // context), context)
            times.append(time.process_time() - began)
        rows.append([f"{SHARDS:,}", f"{SHARDS * DOCUMENTS:,}", f"{context:,}", f"{sorted(times)[1]:.2f}"])
    return Table(
        title="Beginning to read: seconds until the first batch",
        columns=["shards", "documents", "context", "seconds"],
        rows=rows,
        notes=["The manifest is at hand, no file has been opened. Files are opened as their documents are drawn."],
    )
