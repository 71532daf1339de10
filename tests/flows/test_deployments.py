"""What stands in deployments/ names things that exist."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.recipes import shipped_recipes

FOLDER = Path(__file__).parents[2] / "deployments"


def load(name: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # merge keys are of YAML 1.1, as Prefect and Docker read it
    return yaml.load((FOLDER / name).read_text())


def test_prefect_deployments_name_the_flow_and_recipes_that_ship() -> None:
    for deployment in load("prefect.yaml")["deployments"]:
        module, _, attribute = deployment["entrypoint"].rpartition(".")
        assert hasattr(import_module(module), attribute)
        assert deployment["parameters"]["recipe"] in shipped_recipes()


def test_every_secret_of_the_services_has_a_line_in_the_example() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    named = {line.split("=")[0] for line in (FOLDER / "env.example").read_text().splitlines() if "=" in line}
    used = {part.split("}")[0].split(":")[0] for part in text.split("${")[1:]}
    assert used == named
    services = load("compose.yaml")["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
