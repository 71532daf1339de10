"""All that goes into a build of a step: its settings, its inputs, its code and libraries, and the world outside."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.adoption import files_to_adopt, kind_to_adopt
from flows.history import History
from flows.recipe import Recipe, Step
from flows.why import found_outside
from flows.world import RecipeWorld
from storage.artifact import FileEntry, JsonValue, Manifest
from storage.builds import Identity
from storage.code import SymbolDigests, code_of, library_versions
from storage.errors import BrokenError
from storage.identity import digest_of_value
from storage.takedown import Takedowns
from tasks.task import Input


@dataclass
class Identities:
    """The identities of one run's steps: what it looks at once stays as it was then."""

    recipe: Recipe
    history: History
    world: RecipeWorld
    takedowns: Takedowns
    """The requests to leave documents out."""
    _code: dict[str, SymbolDigests] = field(default_factory=dict)

    def of(self, step: Step, inputs: Mapping[str, str]) -> Identity:
        """What goes into a build of ``step`` with these inputs (slot → digest), but for what it grows from."""
        task = step.task
        module = type(task).__module__
        if module not in self._code:
            self._code[module] = code_of(module, *task.also_runs)
        try:
            libraries = library_versions(task.shaping_libraries())
        except importlib.metadata.PackageNotFoundError as error:
            raise BrokenError(f"{step.name}: {step.task_name} needs the library {error.name}; install it") from error
        return Identity(
            task=step.task_name,
            settings=task.settings(),
            inputs=dict(inputs),
            code=self._code[module],
            libraries=libraries,
            outside=self._outside(step),
            seed=self.recipe.seed if task.uses_seed else None,
        )

    def grown(self, step: Step, identity: Identity) -> Identity:
        """The identity with its previous artifact: that of the latest build, if nothing else has changed since."""
        entry = self.history.latest_entry(step.name)
        if entry is None:
            return identity
        store = self.history.store
        record = store.record_of(entry.key)
        if record is not None and record.identity.grown_from(None) == identity:
            return record.identity
        return identity.grown_from(entry.artifact if store.is_whole(entry.artifact) else None)

    def inputs_of(self, step: Step, made: Mapping[str, str]) -> dict[str, str]:
        """Digest of the artifact in each slot, given those of other steps; folders are digested where they lie."""
        return {
            slot: made[reference.step] if reference.step is not None else self.manifest_of_folder(reference).digest
            for slot, reference in step.task.inputs().items()
        }

    def manifest_of_folder(self, reference: Input[object]) -> Manifest:  # type: ignore[type-var]
        """The manifest that the folder of ``{path: FOLDER}`` will have in the store."""
        kind = kind_to_adopt(self.recipe.folder / str(reference.path), reference.kinds)
        files = files_to_adopt(kind, self.recipe.folder / str(reference.path))
        entries = {
            name: FileEntry(object=self.world.digest_of_file(path), bytes=path.stat().st_size)
            for name, path in files.items()
        }
        return Manifest(kind=kind, files=entries)

    def _outside(self, step: Step) -> JsonValue:
        """What the step finds outside, and beside it what makes it look again though it may find the same.

        Where only running it tells, each run counts as another find. Its number stays the same until
        the build is done, so a killed one is found again.
        """
        found, beside = step.task.outside(self.world), {}
        if step.task.only_running_tells():
            entry = self.history.latest_entry(step.name)
            beside["run"] = f"{self.history.name}/{step.name}@{entry.number + 1 if entry else 1}"
        forgotten = self.takedowns.digest(step.task.forgets) if step.task.forgets else None
        if forgotten is not None:
            beside["forgotten"] = forgotten
        return {"found": found, **beside} if beside else found


def identity_of_partitions(identity: Identity) -> str:
    """What a partition's result depends on beside the partition.

    Requests to forget are not among it, since few partitions hold what is to be forgotten: whoever
    takes an earlier result looks for that in it (``RowWork.outdated``).
    """
    found = found_outside(identity.outside)
    return digest_of_value([identity.task, identity.settings, identity.code, identity.libraries, identity.seed, found])
