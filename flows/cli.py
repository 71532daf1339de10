"""The command line: ``athanor COMMAND``. Prefect, MLflow and torch are imported only by what needs them."""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from storage.errors import AthanorError, UserError

if TYPE_CHECKING:
    from flows.home import Home
    from flows.plan import Planner


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command; exits with 0 done, 1 something broke, 2 the user's input is wrong, 130 interrupted.

    Without ``arguments``, those of the process are taken, which ends with the command.
    """
    if arguments is None:
        atexit.register(_leave)  # the first to be registered is the last to be called
    given = _parser().parse_args(arguments)
    try:
        status = given.command(given)
    except AthanorError as error:
        sys.stderr.write(f"athanor: {error}\n")
        status = error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("athanor: interrupted\n")
        status = 130
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.stdout.flush()
    _ended.append(status)
    sys.exit(status)


_ended: list[int] = []


def _leave() -> None:
    """Leave it to the kernel to free what the process holds: Python takes a second to, object by object."""
    if _ended:
        os._exit(_ended[-1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="athanor",
        description="Turn raw web pages into a language model: every step is run when, and only when, "
        "its result would be different.",
        epilog="ATHANOR_HOME (default .athanor) holds the store, both databases and the scratch; "
        "ATHANOR_STORE may be any fsspec URL.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_recipe_commands(commands)
    _add_artifact_commands(commands)
    _add_forget(commands)
    up = commands.add_parser("up", help="serve the Prefect and MLflow pages, and all recipes as deployments")
    up.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    up.set_defaults(command=_up)
    schema = commands.add_parser("schema", help="print the JSON schema of a recipe")
    schema.set_defaults(command=_schema)
    return parser


def _add_recipe_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from flows.recipes import shipped_recipes

    for name, command, text in (
        ("run", _run, "build what the store does not hold yet"),
        ("plan", _plan, "say what would be built and reused, and why; build nothing"),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        names = ", ".join(shipped_recipes()) or "none yet"
        parser.add_argument("recipe", metavar="RECIPE", help=f"a YAML file, or the name of one that ships ({names})")
        parser.add_argument("--set", metavar="STEP.FIELD=VALUE", action="append", default=[], help="override one value")
        parser.add_argument("--until", metavar="STEP", help="build this step and what it needs, nothing else")
        parser.add_argument("--limit", metavar="PAGES", type=int, help="take the first pages only")
        parser.add_argument("--reuse", metavar="STEP", action="append", default=[], help="accept its latest artifact")
        parser.add_argument(
            "--rebuild", metavar="STEP", action="append", default=[], help="build it and all after it afresh"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
        parser.set_defaults(command=command)


def _add_artifact_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def add(name: str, text: str, *, takes: str | None = "A") -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text)
        if takes:
            help_text = "an artifact's digest or its beginning, RECIPE/STEP, RECIPE/STEP@N, or an alias"
            parser.add_argument("artifact", metavar="A", nargs="?" if takes == "[A]" else None, help=help_text)
        parser.set_defaults(command=lambda given: _artifact_command(name, given))
        return parser

    for name, text, takes in (
        ("list", "the latest artifact of every step", None),
        ("show", "what an artifact is and how it came to be", "A"),
        ("lineage", "what an artifact was made of, back to the sources", "A"),
    ):
        command = add(name, text, takes=takes)
        command.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "show":
            what = "of a trained model: the documents in the batch of this step"
            command.add_argument("--step", metavar="N", type=_positive, help=what)
    add("verify", "check every byte of an artifact, or of the whole store", takes="[A]")
    gc = add("gc", "free what neither the latest builds nor an alias need", takes=None)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be freed")
    gc.add_argument("--keep", type=_positive, default=3, metavar="N", help="builds to keep of each step (default 3)")
    export = add("export", "copy an artifact's files into a folder")
    export.add_argument("folder", metavar="DIR", type=Path)
    export.add_argument("--format", choices=("nanogpt", "megatron"), help="write shards as token files of this trainer")
    add("alias", "give an artifact a name that can move").add_argument("name", metavar="NAME")
    generate = add("generate", "sample text from a model or an adapter")
    generate.add_argument("--prompt", metavar="TEXT", required=True)
    generate.add_argument("--max-tokens", metavar="N", type=_positive, default=100)
    generate.add_argument("--temperature", metavar="T", type=float, default=0.8, help="0 takes the likeliest token")
    generate.add_argument("--top-k", metavar="K", type=int, default=50, help="draw from the K likeliest; 0 for all")
    generate.add_argument("--seed", metavar="N", type=int, default=1)


def _add_forget(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "leave documents out of everything that is built from now on, and say what was built with them"
    parser = commands.add_parser("forget", help=text, description=text)
    for name, metavar, what in (
        ("url", "URL", "the page at this address (of files: at this path)"),
        ("domain", "HOST", "all pages of this host and of those below it"),
        ("id", "ID", "the document with this id"),
        ("match", "TEXT", "all documents whose text or title holds this, whatever its case"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, action="append", default=[], help=what)
    parser.add_argument("--purge", action="store_true", help="destroy what holds them already, but for models")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the record")
    parser.add_argument("--withdraw", metavar="NUMBER", type=int, help="take back the request with this number")
    parser.add_argument("--list", action="store_true", help="only list what was asked for so far")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    parser.set_defaults(command=_forget)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


# Commands. Each imports what it needs: worker processes import this module too, as their program's main one.


def _home() -> Home:
    from flows.home import Home

    return Home.of_environment()


def _planner(given: argparse.Namespace) -> Planner:
    from flows.plan import Options, Planner
    from flows.recipe import load_recipe

    home = _home()
    recipe = load_recipe(given.recipe, given.set)
    options = Options(given.until, given.limit, frozenset(given.reuse), frozenset(given.rebuild))
    return Planner(recipe, options, home.open_store(recipe), home)


def _plan(given: argparse.Namespace) -> int:
    from flows.report import plan_table

    planner = _planner(given)
    decisions = planner.plan()
    forecasts = planner.forecasts(decisions)
    if given.json:
        steps: dict[str, dict[str, Any]] = {
            name: {"action": decision.action, "why": decision.why} for name, decision in decisions.items()
        }
        for name, (described, _) in forecasts.items():
            steps[name]["training"] = described
        _print_json({"recipe": planner.recipe.name, "steps": steps})
    else:
        _print("\n".join([plan_table(decisions, {}), *(f"{name}: {line}" for name, (_, line) in forecasts.items())]))
    return 0


def _run(given: argparse.Namespace) -> int:
    gc.disable()  # until all is imported (see flows.start): hardly any of it is ever garbage
    planner = _planner(given)
    # Whatever is wrong with the recipe or its sources is said before a server is started.
    decisions = planner.plan()
    from flows.start import run_pipeline, start_workers_for

    start_workers_for(planner, decisions)
    result = run_pipeline(planner, given)
    if given.json:
        _print_json(result.as_json())
    else:
        from flows.start import closing_words

        _print(closing_words(planner, result))
    return result.exit_status


def _forget(given: argparse.Namespace) -> int:
    from flows import forget, requests
    from storage.takedown import Request

    store = _home().open_store()
    if given.list:
        return _shown(requests.listed(store), requests.listed_text, given.json)
    if given.withdraw is not None:
        if given.url or given.domain or given.id or given.match or given.purge:
            raise UserError("--withdraw NUMBER takes a request back; give what is to be forgotten in another command")
        return _shown(requests.withdraw(store, given.withdraw, given.reason), requests.withdrawn_text, given.json)
    named = {"urls": given.url, "domains": given.domain, "ids": given.id, "texts": given.match}
    asked = Request(at=datetime.now(UTC), **named, reason=given.reason, purge=given.purge)
    return _shown(forget.forget(store, asked), forget.said, given.json)


def _up(given: argparse.Namespace) -> int:
    from flows.up import up

    return up(_home(), given.host)


def _schema(given: argparse.Namespace) -> int:
    from flows.schema import recipe_schema

    _print_json(recipe_schema())
    return 0


def _artifact_command(name: str, given: argparse.Namespace) -> int:
    from flows import artifacts
    from flows.card import write_card
    from flows.lineage import lineage, lineage_text

    home = _home()
    store = home.open_store()
    if name == "list":
        return _shown(artifacts.listing(store), artifacts.listing_text, given.json)
    if name == "gc":
        _print(artifacts.collect(store, given.keep, given.dry_run))
        return 0
    if name == "verify":
        found, text = artifacts.verify(store, given.artifact)
        _print(text)
        return 1 if found else 0
    digest = store.resolve(given.artifact)
    if name == "show" and given.step is not None:
        from flows.batch import batch_of_step, batch_text

        return _shown(batch_of_step(store, digest, given.step), batch_text, given.json)
    if name == "show":
        return _shown(artifacts.description(store, digest), artifacts.description_text, given.json)
    if name == "lineage":
        return _shown(lineage(store, digest), lineage_text, given.json)
    if name == "export" and given.format:
        _print(artifacts.export_as(store, digest, given.folder, given.format))
    elif name == "export":
        store.export(digest, given.folder)
        card = ", and the card README.md" if write_card(store, digest, given.folder) else ""
        _print(f"{len(store.manifest(digest).files)} files in {given.folder}{card}")
    elif name == "alias":
        store.set_alias(given.name, digest)
        _print(f"{given.name} is now {digest[:12]}")
    else:
        _generate(given, digest)
    return 0


def _generate(given: argparse.Namespace, digest: str) -> None:
    store = _home().open_store()
    kind = store.manifest(digest).kind
    if kind not in ("model", "adapter"):
        raise UserError(f"{given.artifact}: makes no text: it is of kind {kind}, not a model or an adapter")
    from model.inference.generate import generate

    pieces = generate(
        store.open(digest).folder, given.prompt, given.max_tokens, given.temperature, given.top_k, given.seed
    )
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _shown(content: object, as_text: object, as_json: bool) -> int:
    if as_json:
        _print_json(content)
    else:
        assert callable(as_text)
        _print(as_text(content))
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
