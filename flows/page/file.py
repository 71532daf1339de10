"""Where the pages of runs lie: a folder a recipe, and a link to the latest beside it."""

from __future__ import annotations

from pathlib import Path

from flows.page.document import ShownRun, document

KEPT = 50
"""Pages of each recipe that stay; MLflow holds those of all its runs."""


def write_page(run: ShownRun, reports: Path) -> Path:
    """Write ``reports/RECIPE/TIME-RUN.html``, have ``reports/RECIPE.html`` lead there, and return its path."""
    folder = reports / run.recipe
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.began:%Y%m%dT%H%M%S}-{run.run_id[:8]}.html"
    beside = path.with_suffix(".new")
    beside.write_text(document(run), encoding="utf-8")
    beside.replace(path)
    link = reports / f".{run.run_id}.link"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(run.recipe) / path.name)
    link.replace(latest(reports, run.recipe))
    for old in sorted(folder.glob("*.html"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def latest(reports: Path, recipe: str) -> Path:
    """The page of the recipe's latest run."""
    return reports / f"{recipe}.html"
