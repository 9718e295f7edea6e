"""`runyard functions`: deploy a folder as a function, call it, and look at what there is."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import click

from runyard.cli.exits import exit_code, sentence
from runyard.cli.inputs import environment, limit, read_folder
from runyard.cli.session import Session
from runyard.cli.speech import as_json, lines, say, table
from runyard.function_models import Function
from runyard.models import Run

MANIFEST = "function.toml"
#: The fields of a manifest; all but the first are those of the API.
FIELDS = frozenset({"name", "language", "entrypoint", "packages", "description", "limits", "env", "input_schema"})
_FAILED = 1


@click.group()
def functions() -> None:
    """Deploy, call, list and delete functions."""


@functions.command()
@click.argument("folder", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--name", help="Name of the function, in place of that in function.toml.")
@click.option("-e", "--env", "env", multiple=True, metavar="NAME[=VALUE]", help="Variable of its environment.")
@click.option("--json", "json_", is_flag=True, help="Print the service's answer.")
@click.pass_obj
def deploy(session: Session, folder: Path, name: str | None, env: tuple[str, ...], json_: bool) -> int:
    """Deploy FOLDER, which has a function.toml, as the next version of a function. Prints the build's log."""
    fields = read_manifest(folder)
    name = name or fields.pop("name", None)
    fields.pop("name", None)
    if name is None:
        raise click.UsageError(f"{folder / MANIFEST}: name is missing; add it, or use --name")
    given = environment([_pair(text) for text in env])
    if given:
        fields["env"] = {**fields.get("env", {}), **given}
    files = [file for file in read_folder(folder) if file["path"] != MANIFEST]
    language = fields.pop("language")
    found = session.client.functions.deploy(name, language, files=files, **fields)
    if json_:
        as_json(found.raw)
    else:
        click.echo(lines(found.log), nl=False, err=not found.ready)
        click.echo(f"{found.name}@{found.version}  {found.state}")
    return 0 if found.ready else _FAILED


@functions.command()
@click.argument("name")
@click.argument("value", required=False, metavar="[INPUT]")
@click.option("-v", "--version", type=click.IntRange(1), help="Version [the newest that is ready].")
@click.option("--limit", "limits", multiple=True, metavar="NAME=NUMBER", help="A limit of the call.")
@click.option("--json", "json_", is_flag=True, help="Print the run.")
@click.pass_obj
def call(  # one argument per option
    session: Session, name: str, value: str | None, version: int | None, limits: tuple[str, ...], json_: bool
) -> int:
    """Call a function with INPUT, which is JSON, or - for stdin [null]; prints its output as JSON.

    All that the handler prints goes to stderr.
    """
    options: dict[str, Any] = {"version": version} if version is not None else {}
    if limits:
        pairs = (text.partition("=") for text in limits)
        options["limits"] = {name: limit(name, number or None) for name, _, number in pairs}
    run = session.client.functions.call(name, _input(value), **options)
    if json_:
        as_json(run.raw)
        return exit_code(run)
    click.echo(run.stdout, nl=False, err=True)
    click.echo(run.stderr, nl=False, err=True)
    _tell(run)
    if run.ok:
        click.echo(json.dumps(run.output, ensure_ascii=False))
    return exit_code(run)


@functions.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Maximum number of rows."
)
@click.option("--after", metavar="NAME", help="Continue after this name.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, limit: int, after: str | None, json_: bool) -> None:
    """List the key's functions, newest first."""
    page = session.client.functions.list(limit=limit, after=after)
    if json_:
        as_json([found.raw for found in page.data])
        return
    table([_row(found) for found in page.data], ["FUNCTION", "VERSION", "STATE", "LANGUAGE", "UPDATED"])
    if page.has_more:
        say(f"more rows: --after {page.last_id}")


@functions.command()
@click.argument("name")
@click.option("-v", "--version", type=click.IntRange(1), help="Version [the newest that is ready].")
@click.pass_obj
def logs(session: Session, name: str, version: int | None) -> None:
    """Print the log of a build. `runyard runs list --function NAME` lists the builds and calls."""
    click.echo(lines(session.client.functions.get(name, version).log), nl=False)


@functions.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, names: tuple[str, ...]) -> None:
    """Delete functions with all their versions."""
    for name in names:
        session.client.functions.delete(name)
        click.echo(f"{name}  deleted")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a folder's function.toml. Raises click.UsageError."""
    path = folder / MANIFEST
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise click.UsageError(f"{path}: no such file; it names the language and the entrypoint") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise click.UsageError(f"{path}: {e}") from e
    unknown = sorted(set(data) - FIELDS)
    if unknown:
        raise click.UsageError(f"{path}: unknown {', '.join(unknown)}; supported: {', '.join(sorted(FIELDS))}")
    for name in ("language", "entrypoint"):
        if not isinstance(data.get(name), str):
            raise click.UsageError(f"{path}: {name} is missing")
    return data


def _pair(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _input(value: str | None) -> object:
    if value is None:
        return None
    text = sys.stdin.read() if value == "-" else value
    try:
        return json.loads(text)
    except ValueError as e:
        raise click.UsageError(f"INPUT: is not JSON: {e}; a text needs quotation marks: '\"text\"'") from e


def _tell(run: Run) -> None:
    if run.exception is not None:
        say(f"{run.exception.name}: {run.exception.value}")
    elif (text := sentence(run)) is not None:
        say(text)


def _row(found: Function) -> list[object]:
    return [found.name, found.version, found.state, found.language, found.updated_at]
