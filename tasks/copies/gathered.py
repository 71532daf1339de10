"""The signatures of all documents in one file, kept from build to build.

From there a refresh takes those of the partitions that are as they were, so it opens, and of a
remote store fetches, one file instead of one for each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from storage.corpus import Partition, read_table
from tasks.task import PartitionResult

_PARTITIONS = b"partitions"
"""In the schema's metadata: digests of the documents' partitions, one for each record batch."""


def gather(
    partitions: Sequence[Partition], made: Sequence[PartitionResult], before: Path | None, path: Path
) -> list[pa.RecordBatch]:
    """Write the signatures of these partitions to ``path``, and map them: a record batch for each partition.

    ``made`` is where each one's lie; those that the file ``before`` holds already are copied from there.
    """
    known = _read(before) if before is not None else {}
    metadata = {_PARTITIONS: json.dumps([partition.digest for partition in partitions])}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a build that was killed may have left a link to what it kept
    with pa.OSFile(str(path), "wb") as sink:
        writer: pa.RecordBatchFileWriter | None = None
        for partition, result in zip(partitions, made, strict=True):
            batch = known.get(partition.digest)
            if batch is None:
                batch = _batch(read_table(result.files[result.name]))
            if writer is None:
                writer = pa.ipc.new_file(sink, batch.schema.with_metadata(metadata))
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
    return list(_read(path, [str(number) for number in range(len(partitions))]).values())


def _read(path: Path, names: Sequence[str] | None = None) -> dict[str, pa.RecordBatch]:
    """The batches by their partitions' digests, or by other names."""
    file = pa.ipc.open_file(pa.memory_map(str(path), "r"))
    digests = names if names is not None else json.loads(file.schema.metadata[_PARTITIONS])
    return {digest: file.get_batch(number) for number, digest in enumerate(digests)}


def _batch(table: pa.Table) -> pa.RecordBatch:
    """A table as one batch, which may have no rows."""
    columns = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema.remove_metadata())
