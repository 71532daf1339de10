"""What every kind of step is: settings and inputs as fields, and ``run``.

A task names what it needs and what it makes; it knows neither the store nor Prefect nor MLflow,
so it can be run on plain folders.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from storage.artifact import Artifact, JsonValue
from storage.corpus import Partition
from storage.stored import AnyFile
from storage.takedown import Takedowns, Where
from tasks.inputs import A, Input, Kind, Outside, Settings, identity_of, references
from tasks.resources import Resources

if TYPE_CHECKING:
    from tasks.known import Known
    from tasks.rows import RowWork
    from tasks.stem import Stem

__all__ = [
    "Context", "DocumentLost", "Guard", "Input", "Kind", "Outside", "PartitionFunction", "PartitionResult",
    "Progress", "Resources", "Result", "Sample", "Settings", "Task", "World",
]  # fmt: skip

PLUMBING = "what a task declares enters the key by value"

T = TypeVar("T")


class World(Protocol):
    """The outside world as a source sees it, while planning and while collecting."""

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the recipe start from."""

    @property
    def limit(self) -> int | None:
        """Take the first pages only (``--limit``); None for all."""

    def digest_of_file(self, path: str | Path) -> str:
        """Digest of a file's content, remembered by inode, size and time of change."""

    def once(self, question: Hashable, find: Callable[[], T]) -> T:
        """What ``find`` returns; in a run it is asked once for each question, so all see the same world."""


class Progress(Protocol):
    """Where long work says how far it is; rate and time left are worked out by the reader.

    ``begun``: what of ``done`` an earlier run had done, so that it is no part of the rate.
    """

    def __call__(self, done: int, total: int | None, unit: str, note: str = "", begun: int = 0) -> None: ...


@dataclass(frozen=True)
class PartitionResult:
    """What became of one partition."""

    name: str
    """Name of the input partition."""
    files: Mapping[str, Path]
    """The files it was made into, by name; of a remote store, each is fetched when it is asked for."""
    stats: dict[str, JsonValue]
    """What the function returned; when the partition was reused, samples without their texts."""
    reused: bool
    """Whether an earlier build's result was taken."""
    whole: Callable[[], dict[str, JsonValue] | None] | None = None
    """Asked for all that the function returned, where ``stats`` are short; None if that has been lost."""


class Guard(Protocol):
    """Protects a partition's work from single documents that hang or crash."""

    def __call__(self, document: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return ``function(*arguments)`` for the document with this id.

        Raises DocumentLost("timeout") or DocumentLost("crash") for a document that earlier cost
        the worker its life; Python exceptions of ``function`` pass through.
        """


class DocumentLost(Exception):
    """This document cannot be worked on; ``reason`` is ``timeout`` or ``crash``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


PartitionFunction = Callable[[Any, Path, Path, Guard], dict[str, JsonValue]]
"""``function(payload, input file, output file, guard) -> stats``; module-level, so that a worker can import it.

It writes the output file, or instead other files beside it (``output.with_name(…)``), and its
result may depend on nothing but its arguments. Stats are JSON values.
"""


@dataclass(frozen=True)
class Sample:
    """Something for a person to read: one text, or two side by side."""

    title: str
    """What it is a sample of; those with the same title are shown together: ``dropped: gopher.length``."""
    before: str
    after: str | None = None
    place: str = ""
    """URL or path of the document."""
    before_is: str = "before"
    """What stands above the first text."""
    after_is: str = "after"


@dataclass(frozen=True)
class Result:
    """What a run says about itself, beside the files in ``context.output``."""

    counts: dict[str, JsonValue] = field(default_factory=dict)
    """Part of the artifact's identity: only what follows from the output's content (rows, tokens)."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Part of the build's record: ``documents_in``, ``documents_out``, ``dropped.REASON``, ``loss`` …"""
    headline: str = ""
    """The one number that matters, for the table that ends a run: ``203 documents``, ``perplexity 41.2``."""
    samples: list[Sample] = field(default_factory=list)
    """A few texts for a person to judge by."""


class Context(Protocol):
    """What a task is given to run with."""

    @property
    def output(self) -> Path:
        """The folder whose files become the artifact. A resumed build finds what it left there."""

    @property
    def scratch(self) -> Path:
        """A folder that survives a kill and is removed once the artifact is committed."""

    @property
    def compiled(self) -> Path | None:
        """Folder for what networks are compiled to, so that later runs find it; None: they need not."""

    @property
    def metrics_file(self) -> Path:
        """JSON lines ``{"step": int, NAME: float, …}`` appended while training; shown live. Lies in ``scratch``."""

    @property
    def seed(self) -> int:
        """The recipe's seed; only for tasks with ``uses_seed``."""

    @property
    def resources(self) -> Resources: ...

    @property
    def world(self) -> World: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def lock_fds(self) -> tuple[int, ...]:
        """Descriptors of the build's lock, for training processes to hold as well."""

    @property
    def takedowns(self) -> Takedowns:
        """The requests to leave documents out, for tasks with ``forgets``."""

    @property
    def previous(self) -> Artifact | None:
        """The step's own latest artifact, for tasks with ``grows``."""

    @property
    def state(self) -> Artifact | None:
        """The state of a shorter training to continue from, for tasks with a ``stem``."""

    def open(self, reference: Input[A]) -> A:
        """The artifact that an input field refers to."""

    def maker(self, reference: Input[Any]) -> Task | None:
        """The step that made what an input field refers to, as the recipe has it now; None for the user's folders.

        It may tell where things are, never what they are: it is no part of a key.
        """

    def map_partitions(
        self,
        function: PartitionFunction,
        payload: Any,
        partitions: Sequence[Partition],
        *,
        depends_on: Sequence[Artifact] = (),
        seconds_per_document: float = 60.0,
        output: Path | None = None,
        remembered: bool = True,
    ) -> list[PartitionResult]:
        """Apply ``function`` to every partition in worker processes; results in the partitions' order.

        ``payload`` is pickled and handed to the function (most often the task itself). Files go
        into ``output`` (default: the artifact's; those of earlier results may lie elsewhere, as the
        results say, and are part of the artifact all the same). A partition whose result is already known, from
        this build before it was killed or from an earlier one, is not worked on again; an earlier
        one counts if the task's settings, code and libraries, the artifacts in ``depends_on`` and
        the partition's bytes are the same. What is not to be ``remembered`` serves this build alone.
        """

    def take_over(self, name: str, where: AnyFile) -> None:
        """Have a file of an input, or of the previous artifact, in the output under this name, without copying it."""

    def keep(self, path: Path) -> None:
        """Keep a file for later builds of the step; it is moved, and is no longer in its place.

        It may save them work, but must not change what they make.
        """

    def kept(self, name: str) -> Path | None:
        """The file with this name that the last build kept, if its settings, code and libraries were the same."""

    def map_rows(
        self,
        work: RowWork,
        partitions: Sequence[Partition],
        *,
        depends_on: Sequence[Artifact] = (),
        seconds_per_document: float = 60.0,
        output: Path | None = None,
    ) -> list[PartitionResult]:
        """Likewise with what makes each of its rows of one row alone (see ``tasks.rows``).

        Of a partition whose bytes have changed, only the rows that have changed since the step's
        last build are worked on.
        """


class Task(Settings):
    """A kind of step. Its fields are its settings and inputs; ``run`` does the work."""

    makes: ClassVar[Kind]
    """The kind of artifact it makes (see ``kind`` where that depends on the settings)."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions shape the output, hence are part of the key."""
    also_runs: ClassVar[tuple[str, ...]] = ()
    """Modules that it runs in processes of their own, not by an import: their code is part of the key too."""
    uses_seed: ClassVar[bool] = False
    """Whether the recipe's seed is part of the key."""
    grows: ClassVar[bool] = False
    """Whether the step's own previous artifact is one of its inputs."""
    trains: ClassVar[bool] = False
    """Whether it runs a network: such steps run one at a time (see ``takes_device``)."""
    forgets: ClassVar[Where | None] = None
    """Which requests to leave documents out it obeys (see ``storage.takedown``)."""
    names_its_inputs: ClassVar[bool] = False
    """Whether the names of the input steps appear in the output, hence in the key."""

    def kind(self) -> Kind:
        """The kind of artifact that these settings make."""
        return self.makes

    def shaping_libraries(self) -> tuple[str, ...]:
        """Those of ``libraries`` that shape the output under these settings."""
        return self.libraries

    def outside(self, world: World) -> JsonValue:
        """What of the outside world goes into the key: a cheap fingerprint. None for most tasks."""
        return None

    def only_running_tells(self) -> list[str]:
        """Names of what it reads outside that has no fingerprint: then every run builds it. None for most tasks."""
        return []

    def pinned(self) -> bool:
        """Whether the latest artifact stays in use when nothing but the content of the inputs has changed."""
        return False

    def check_makers(self, maker_of: Callable[[Input[Any]], Task | None]) -> None:
        """Raise ValueError, with a remedy, if what makes its inputs (None: a folder) is set so that it cannot work."""

    def stem(self, inputs: Mapping[str, str]) -> Stem | None:
        """Of a training: its first steps, which a longer one has in common with it; ``inputs``: digests by slot."""
        return None

    def forecast(self, resources: Resources, known: Known) -> tuple[dict[str, Any], str] | None:
        """What a training step will take, as JSON and in a line; None of any other step."""
        return None

    def check_resources(self, resources: Resources) -> None:
        """Raise ValueError, with a remedy, if it cannot run on these resources."""

    def takes_device(self, resources: Resources) -> bool:
        """Whether it waits until no other step trains on this machine."""
        return self.trains

    def goes_on_with(self) -> Input[Any] | None:
        """The input whose network it trains further; None where there is none."""
        return None

    def check_network(self, folder: Path, resources: Resources) -> None:
        """Raise ValueError, with a remedy, if the network in a folder cannot be trained on these resources."""

    @abstractmethod
    def run(self, context: Context) -> Result:
        """Do the work: read the inputs, write files into ``context.output``."""

    def inputs(self) -> dict[str, Input[Any]]:
        """Every reference in the fields, by its place: ``documents``, ``models[1]``, ``data[0].shards``."""
        return dict(references("", self))

    def settings(self) -> JsonValue:
        """The settings that are part of the key: defaults filled in, no places, inputs by their slots."""
        return identity_of("", self, self.names_its_inputs)
