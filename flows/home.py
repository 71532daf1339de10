"""The folder that holds the store, both databases and the scratch: ``ATHANOR_HOME``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.recipe import Recipe
from storage.store import Store


@dataclass(frozen=True)
class Home:
    """Where things lie."""

    folder: Path

    @classmethod
    def of_environment(cls) -> Home:
        """``ATHANOR_HOME``, or ``.athanor`` in the current folder."""
        return cls(Path(os.environ.get("ATHANOR_HOME") or ".athanor").resolve())

    def store_address(self, recipe: Recipe | None = None) -> str:
        """``ATHANOR_STORE``, else what the recipe says, else a folder here."""
        given = os.environ.get("ATHANOR_STORE") or (recipe.store if recipe else None)
        if not given:
            return str(self.folder / "store")
        if recipe is not None and given == recipe.store and "://" not in given:
            return str(recipe.folder / given)
        return given

    def open_store(self, recipe: Recipe | None = None) -> Store:
        """Raises StoreUnavailable if it cannot be read or written."""
        return Store(self.store_address(recipe), self.folder)

    @property
    def file_digests(self) -> Path:
        """Database of the digests of source files."""
        return self.folder / "file_digests.db"

    @property
    def code_digests(self) -> Path:
        """What the modules of this program say, for identities."""
        return self.folder / "code_digests.json"

    @property
    def compiled(self) -> Path:
        """What networks were compiled to, for the next training of the same shape."""
        return self.folder / "cache" / "compiled"

    @property
    def prefect(self) -> Path:
        """Prefect's own folder, its database in it."""
        return self.folder / "prefect"

    @property
    def tracking_uri(self) -> str:
        """``MLFLOW_TRACKING_URI``, or an SQLite database here."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow_database}"

    @property
    def mlflow_database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def mlflow_files(self) -> Path:
        """Where MLflow keeps pictures and texts, when its database is here."""
        return self.folder / "mlflow"

    @property
    def reports(self) -> Path:
        """The pages of runs, a folder a recipe."""
        return self.folder / "reports"

    @property
    def outbox(self) -> Path:
        """Records on their way to MLflow."""
        return self.folder / "outbox"

    @property
    def up(self) -> Path:
        """Addresses of the servers that a running ``athanor up`` has started."""
        return self.folder / "up.json"

    def lock(self, name: str) -> Path:
        """A file to hold a lock on."""
        return self.folder / "locks" / name
