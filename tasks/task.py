"""What every kind of step is: settings and inputs as fields, and ``run``.

A task names what it needs and what it makes; it knows neither the store nor Prefect nor MLflow,
so it can be run on plain folders.
"""

from __future__ import annotations

import os
import types
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from model.launching.hosts import Hosts
from storage.artifact import Artifact, JsonValue
from storage.corpus import Partition
from storage.takedown import Takedowns, Where

if TYPE_CHECKING:
    from tasks.rows import RowWork

PLUMBING = "what a task declares enters the key by value"

A = TypeVar("A", bound=Artifact)
Kind = type[Artifact]


class Outside:
    """Marks a field that says where something is, not what it is: it never enters a key.

    ``path: Annotated[str, Outside()]``. What is found there enters the key by ``Task.outside``.
    """


class Input(Generic[A]):
    """The artifact that a step takes: the name of a step, or a folder to adopt (``{path: FOLDER}``).

    Immutable; two are equal if they refer to the same thing. (A dataclass would be taken over by
    pydantic's own handling of dataclasses.)
    """

    def __init__(self, step: str | None = None, path: str | None = None, kinds: tuple[Kind, ...] = ()) -> None:
        self.step = step
        self.path = path
        self.kinds = kinds
        """The kinds that fit here, from the field's annotation."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Input) and (self.step, self.path) == (other.step, other.path)

    def __hash__(self) -> int:
        return hash((self.step, self.path))

    def __repr__(self) -> str:
        return f"Input({self.step!r})" if self.step is not None else f"Input(path={self.path!r})"

    @property
    def name(self) -> str:
        """How a report calls it: the step's name, or the folder's."""
        return self.step or Path(self.path or "").name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = _kinds_of(get_args(source)[0]) if get_args(source) else ()

        def parse(value: Any) -> Input[Any]:
            if isinstance(value, Input):
                return Input(value.step, value.path, kinds)
            if isinstance(value, str):
                return Input(step=value, kinds=kinds)
            if isinstance(value, dict) and set(value) == {"path"} and isinstance(value["path"], str):
                return Input(path=value["path"], kinds=kinds)
            raise ValueError("expected the name of a step, or {path: FOLDER}")

        def serialise(value: Input[Any]) -> JsonValue:
            return value.step if value.step is not None else {"path": value.path}

        return core_schema.no_info_plain_validator_function(
            parse, serialization=core_schema.plain_serializer_function_ser_schema(serialise)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        folder = {
            "type": "object",
            "properties": {"path": {"type": "string"}},
            "required": ["path"],
            "additionalProperties": False,
        }
        return {"anyOf": [{"type": "string", "description": "name of a step"}, folder]}


def _kinds_of(annotation: Any) -> tuple[Kind, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for member in get_args(annotation) for kind in _kinds_of(member))
    return (annotation,)


class Settings(BaseModel):
    """Base of tasks and of the settings inside them: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Resources(Settings):
    """Where and how fast a step runs. Never part of a key."""

    engine: Literal["local", "ray"] = "local"
    """What runs a data step: processes of this machine, or a Ray cluster."""
    address: str | None = None
    """The Ray cluster's address (``HOST:6379``); without one, ``RAY_ADDRESS``, else the cluster on this machine."""
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Worker processes of a data step: as many as there are processors (with ``ray``: in the cluster), and fewer
    where memory is short."""
    processes: int = Field(1, ge=1)
    """Training processes (ranks), on all hosts together."""
    hosts: Hosts | None = None
    """The hosts of a training step; without it, this one."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """DeepSpeed's ZeRO stage."""
    offload: Literal["none", "cpu"] = "none"
    """``cpu``: ZeRO keeps its share of weights, gradients and moments in the host's memory, and updates them there."""
    sequence_processes: int = Field(1, ge=1)
    """Training processes that share the positions of the same sequences (Ulysses), for contexts too long for one."""
    tensor_processes: int = Field(1, ge=1)
    """Training processes that share every matrix of the network (tensor parallelism), for networks too large for one;
    best on one host, as they talk in every layer."""
    pipeline_processes: int = Field(1, ge=1)
    """Stages of a pipeline: each has some of the network's blocks, on training processes of its own, and
    micro-batches flow through them. Keeps all busy where a step has several times as many micro-batches."""
    recompute: bool = False
    """Whether activations are computed again in the backward pass instead of kept: about a third slower, far less
    memory (activation checkpointing)."""
    micro_batch_sequences: int = Field(8, ge=1)
    """Sequences that one training process handles at a time."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a model runs; ``auto`` takes a GPU if there is one."""


class World(Protocol):
    """The outside world as a source sees it, while planning and while collecting."""

    @property
    def folder(self) -> Path:
        """The folder that relative paths of the recipe start from."""

    @property
    def limit(self) -> int | None:
        """Take the first pages only (``--limit``); None for all."""

    def digest_of_file(self, path: Path) -> str:
        """Digest of a file's content, remembered by inode, size and time of change."""


class Progress(Protocol):
    """Where long work says how far it is; rate and time left are worked out by the reader."""

    def __call__(self, done: int, total: int | None, unit: str, note: str = "") -> None: ...


@dataclass(frozen=True)
class PartitionResult:
    """What became of one partition."""

    name: str
    """Name of the input partition."""
    files: dict[str, Path]
    """The files it was made into, in the output folder, by name."""
    stats: dict[str, JsonValue]
    """What the function returned; the same when the partition was reused."""
    reused: bool
    """Whether an earlier build's result was taken."""


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
        into ``output`` (default: the artifact's). A partition whose result is already known, from
        this build before it was killed or from an earlier one, is not worked on again; an earlier
        one counts if the task's settings, code and libraries, the artifacts in ``depends_on`` and
        the partition's bytes are the same. What is not to be ``remembered`` serves this build alone.
        """

    def keep(self, path: Path) -> None:
        """Keep a file for later builds of the step; it is moved, and a link is left in its place.

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
    """Whether it holds the device slot: such steps run one at a time."""
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

    def forecast(
        self, resources: Resources, maker_of: Callable[[Input[Any]], Task | None]
    ) -> tuple[dict[str, Any], str] | None:
        """What a training step will take, as JSON and in a line; None where it is not known before it runs."""
        return None

    def check_resources(self, resources: Resources) -> None:
        """Raise ValueError, with a remedy, if it cannot run on these resources."""

    @abstractmethod
    def run(self, context: Context) -> Result:
        """Do the work: read the inputs, write files into ``context.output``."""

    def inputs(self) -> dict[str, Input[Any]]:
        """Every reference in the fields, by its place: ``documents``, ``models[1]``, ``data[0].shards``."""
        return dict(_references("", self))

    def settings(self) -> JsonValue:
        """The settings that are part of the key: defaults filled in, no places, inputs by their slots."""
        return _identity_of("", self, self.names_its_inputs)


def _children(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a settings object, items of a list, values of a mapping, with their places."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            if not any(isinstance(mark, Outside) for mark in info.metadata):
                yield (f"{place}.{name}" if place else name), getattr(value, name)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"{place}[{index}]", item
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{place}.{name}", item


def _references(place: str, value: Any) -> Iterator[tuple[str, Input[Any]]]:
    if isinstance(value, Input):
        yield place, value
    for child_place, child in _children(place, value):
        yield from _references(child_place, child)


def _identity_of(place: str, value: Any, with_names: bool) -> JsonValue:
    if isinstance(value, Input):
        return {"input": place, "name": value.name} if with_names else {"input": place}
    if isinstance(value, (list, tuple)):
        return [_identity_of(child_place, child, with_names) for child_place, child in _children(place, value)]
    if isinstance(value, (BaseModel, Mapping)):
        prefix = len(place) + 1 if place else 0
        return {p[prefix:]: _identity_of(p, child, with_names) for p, child in _children(place, value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place}: a {type(value).__name__} has no stable serialisation, so it cannot be a setting")
