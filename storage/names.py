"""Names that move: the history of each step, and aliases.

refs/steps/RECIPE/STEP/NUMBER.json   which build was the step's, and when
refs/aliases/NAME.json               the artifact that a person gave a name
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from storage.builds import Entry
from storage.errors import NotFound, UserError
from storage.identity import canonical_json
from storage.place import Place

MIN_PREFIX = 6
"""Shortest beginning of a digest that names an artifact."""


class Names:
    """The part of a store that says what is called what."""

    place: Place

    def append_history(self, recipe: str, step: str, key: str, artifact: str) -> int:
        """Say that ``artifact`` is now the step's, unless it is already; its number in the history."""
        while True:
            entries = self.history(recipe, step, last=1)
            if entries and (entries[-1].key, entries[-1].artifact) == (key, artifact):
                return entries[-1].number
            number = entries[-1].number + 1 if entries else 1
            record = {"number": number, "key": key, "artifact": artifact, "at": datetime.now(UTC).isoformat()}
            name = f"refs/steps/{recipe}/{step}/{number:06}.json"
            if self.place.write(name, canonical_json(record).encode(), exclusive=True):
                return number

    def history(self, recipe: str, step: str, last: int | None = None) -> list[Entry]:
        """The step's builds, or only so many of the latest, oldest first."""
        folder = f"refs/steps/{recipe}/{step}"
        names = self.place.names(folder)[-last if last else 0 :]
        contents = self.place.each(lambda name: self.place.read(f"{folder}/{name}"), names)
        records = [json.loads(content) for content in contents if content is not None]
        return [Entry(r["number"], r["key"], r["artifact"], datetime.fromisoformat(r["at"])) for r in records]

    def steps(self) -> list[tuple[str, str]]:
        """Every (recipe, step) that has a history."""
        return [(r, s) for r in self.place.folders("refs/steps") for s in self.place.folders(f"refs/steps/{r}")]

    def set_alias(self, name: str, digest: str) -> None:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"alias {name!r}: use letters, digits, - and _ only")
        self.place.write(f"refs/aliases/{name}.json", canonical_json({"artifact": digest}).encode())

    def aliases(self) -> dict[str, str]:
        """Alias → artifact digest."""
        found = {}
        for name in self.place.names("refs/aliases"):
            content = self.place.read(f"refs/aliases/{name}")
            if content is not None:
                found[name.removesuffix(".json")] = str(json.loads(content)["artifact"])
        return found

    def resolve(self, name: str) -> str:
        """Digest of an artifact by its alias, ``RECIPE/STEP``, ``RECIPE/STEP@N``, or a digest's beginning."""
        aliases = self.aliases()
        if name in aliases:
            return aliases[name]
        if "/" in name:
            return self._resolve_step(name)
        found = [n.removesuffix(".json") for n in self.place.names("artifacts") if n.startswith(name)]
        if len(found) == 1 and len(name) >= MIN_PREFIX:
            return found[0]
        if len(found) > 1:
            raise NotFound(f"{name!r} begins {len(found)} digests; give more of it (at least {MIN_PREFIX} digits)")
        raise NotFound(f"no artifact {name!r}: give an alias, RECIPE/STEP, RECIPE/STEP@N or a digest (`athanor list`)")

    def _resolve_step(self, name: str) -> str:
        path, _, number = name.partition("@")
        recipe, _, step = path.partition("/")
        entries = self.history(recipe, step) if is_safe(path) else []
        if not entries:
            raise NotFound(f"no step {path!r} has been built; `athanor list` shows those that were")
        if not number:
            return entries[-1].artifact
        for entry in entries:
            if str(entry.number) == number:
                return entry.artifact
        raise NotFound(f"{path} has no build {number!r}; it has {entries[0].number} to {entries[-1].number}")


def is_safe(name: str) -> bool:
    """Whether a name stays inside the folder it is put in."""
    parts = set(name.split("/"))
    return bool(parts - {"", "."}) and not name.startswith("/") and ".." not in parts and "\\" not in name
