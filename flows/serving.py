"""The process that serves recipes as Prefect deployments: ``python -m flows.serving``."""

from __future__ import annotations

import sys
from pathlib import Path

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.pipeline import pipeline
from flows.recipe import Recipe, load_recipe
from flows.recipes import shipped_recipes
from storage.errors import RecipeError

DEPLOYMENT = "athanor"
"""Name of the deployment of every recipe: ``quickstart/athanor``."""


def recipes_here(folder: Path) -> dict[str, Recipe]:
    """Recipes that ship, by name, and those in ``folder``, by path; what is not a recipe is told and left out."""
    found = {name: load_recipe(name) for name in shipped_recipes()}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            found[str(path.resolve())] = load_recipe(str(path))
        except RecipeError as error:
            sys.stderr.write(f"not served: {error}\n")
    return found


def deployment_of(reference: str, recipe: Recipe) -> RunnerDeployment:
    """A deployment whose form in the UI has the options of ``athanor run``."""
    deployment = pipeline.with_options(name=recipe.name).to_deployment(
        name=DEPLOYMENT,
        parameters={"recipe": reference},
        description=f"{len(recipe.steps)} steps: {' → '.join(recipe.steps)}",
        tags=["athanor"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)
    return deployment


def main() -> None:
    deployments = {
        recipe.name: deployment_of(reference, recipe) for reference, recipe in recipes_here(Path.cwd()).items()
    }
    serve(*deployments.values(), print_starting_message=False, pause_on_shutdown=False)


if __name__ == "__main__":
    main()
