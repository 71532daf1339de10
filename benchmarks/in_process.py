"""Running a data task in this very process, over plain folders."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.artifact import Artifact
from storage.corpus import DOCUMENTS_SCHEMA, Documents, Partition, table_of, write_table
from tasks.context import PlainWorld, RunContext
from tasks.rows import RowWork
from tasks.task import PartitionResult, Task

_PARTITION = 500
"""Documents of a partition."""


class InProcess(RunContext):
    """A context whose workers are this process, so that all processor time is its own."""

    def _map(
        self,
        name: str,
        function: Callable[..., Any],
        payload: Any,
        partitions: Sequence[Partition],
        depends_on: Sequence[Artifact],
        seconds_per_document: float,
        output: Path | None,
        rows: RowWork | None = None,
    ) -> list[PartitionResult]:
        results, folder = [], output or self.output
        folder.mkdir(parents=True, exist_ok=True)
        for partition in partitions:
            before = set(folder.iterdir())
            stats = function(payload, partition.path, folder / partition.name, None)
            made = {path.name: path for path in folder.iterdir() if path not in before}
            results.append(PartitionResult(partition.name, made, stats, reused=False))
        return results


@contextmanager
def output_of(task: Task, documents: Documents) -> Iterator[Documents]:
    """The documents that a task with the one input ``documents`` makes of these; their files go with the context."""
    with tempfile.TemporaryDirectory() as folder:
        context = InProcess(
            output=Path(folder, "output"),
            scratch=Path(folder, "scratch"),
            world=PlainWorld(Path(folder)),
            inputs=dict.fromkeys(task.inputs().values(), documents),
        )
        task.run(context)
        yield Documents.of_folder(context.output)


def written(texts: Sequence[str], folder: Path) -> Documents:
    """The texts as a corpus whose ids are their numbers."""
    rows = [
        {"id": f"{number:08}", "text": text, "url": str(number), "source": "texts", "first_seen": 1}
        for number, text in enumerate(texts)
    ]
    for number, start in enumerate(range(0, len(rows), _PARTITION)):
        write_table(table_of(rows[start : start + _PARTITION], DOCUMENTS_SCHEMA), folder / f"{number:05}.parquet")
    return Documents.of_folder(folder)
