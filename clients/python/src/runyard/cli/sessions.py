"""`runyard sessions`: sandboxes that stay alive. Other modules may add commands to the group."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runyard.cli import inputs
from runyard.cli.exits import SERVICE_FAILED
from runyard.cli.session import Session
from runyard.cli.session_exec import execute
from runyard.cli.shell import shell
from runyard.cli.speech import Meter, as_json, explain, lines, say, table
from runyard.cli.units import MEBIBYTES, PAIR
from runyard.errors import RunyardError

if TYPE_CHECKING:
    from runyard._session_calls import SessionOptions
    from runyard.session_models import Entry, SessionInfo

_HEADS = ["SESSION", "STATUS", "LANGUAGE", "NAME", "RUNS", "CREATED", "EXPIRES"]


@click.group()
def sessions() -> None:
    """Create, list, show, use and delete sessions: sandboxes that stay alive."""


sessions.add_command(shell)
sessions.add_command(execute)


@sessions.command()
@click.argument("language", default="python")
@click.option("--name", help="Unique name; with that of a live session, that one is returned.")
@click.option("-m", "--memory", type=MEBIBYTES, help="Memory: 512 (MiB), 512m, 1g.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="CPU limit in cores, such as 0.5.")
@click.option("-e", "--env", "env", multiple=True, type=PAIR, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("--idle", type=click.IntRange(1), metavar="SECONDS", help="End it when nothing happened for so long.")
@click.option("--max-age", type=click.IntRange(1), metavar="SECONDS", help="End it at this age.")
@click.option("--isolation", type=click.Choice(["default", "container", "gvisor"]), help="Isolation level.")
@click.option(
    "-p", "--package", "packages", multiple=True, metavar="NAME", help="Package to install first (repeatable)."
)
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def create(  # one argument per option
    session: Session,
    language: str,
    name: str | None,
    memory: int | None,
    cpus: float | None,
    env: tuple[tuple[str, str | None], ...],
    idle: int | None,
    max_age: int | None,
    isolation: str | None,
    packages: tuple[str, ...],
    json_: bool,
) -> None:
    """Create a session in LANGUAGE (python by default) and print its id."""
    options: SessionOptions = {"env": inputs.environment(env)}
    limits = {name: value for name, value in (("memory_mb", memory), ("cpus", cpus)) if value is not None}
    found = {"name": name, "idle_timeout_s": idle, "max_age_s": max_age, "isolation": isolation}
    options |= {key: value for key, value in found.items() if value is not None}  # type: ignore[typeddict-item]
    if limits:
        options["limits"] = limits  # type: ignore[typeddict-item]  # two of its own names
    if packages:
        options["packages"] = packages
    made = session.client.sessions.create(language, **options).info
    as_json(made.raw) if json_ else click.echo(made.id)


@sessions.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Maximum number of rows."
)
@click.option("--after", metavar="ID", help="Continue after this id.")
@click.option("-a", "--all", "all_", is_flag=True, help="Ended sessions too.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, limit: int, after: str | None, all_: bool, json_: bool) -> None:
    """List the key's live sessions, newest first."""
    page = session.client.sessions.list(limit=limit, after=after, status=None if all_ else "live")
    if json_:
        as_json([info.raw for info in page.data])
        return
    table([_row(info) for info in page.data], _HEADS)
    if page.has_more:
        say(f"more rows: --after {page.last_id}")


@sessions.command()
@click.argument("session_id")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def get(session: Session, session_id: str, json_: bool) -> None:
    """Show a session and its processes."""
    live = session.client.sessions.get(session_id)
    if json_:
        as_json(live.info.raw)
        return
    table([_row(live.info)], _HEADS)
    if live.info.end_reason is not None:
        click.echo(f"-- ended: {live.info.end_reason}")
        return
    for process in live.processes.list():
        click.echo(f"-- {process.id}  {process.status}  {lines(' '.join(process.argv))}")


@sessions.command()
@click.argument("source")
@click.argument("target")
@click.pass_obj
def cp(session: Session, source: str, target: str) -> int:
    """Copy a file into a session, or out of one: one of SOURCE and TARGET is SESSION:PATH.

    \b
      runyard sessions cp data.csv SESSION:data.csv
      runyard sessions cp SESSION:outputs/plot.png .
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    there, here = _remote(target), _remote(source)
    if (there is None) == (here is None):
        raise click.UsageError("one of SOURCE and TARGET must be SESSION:PATH, and the other a file here")
    if there is not None:
        return _copy_in(session, Path(source), *there)
    assert here is not None
    return _copy_out(session, *here, Path(target))


@sessions.command()
@click.argument("session_id")
@click.argument("path", default="/work")
@click.option("--depth", type=click.IntRange(1, 64), default=1, show_default=True, help="So many levels.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(session: Session, session_id: str, path: str, depth: int, json_: bool) -> None:
    """List a directory of a session."""
    found = session.client.sessions.get(session_id).files.list(path, depth=depth)
    if json_:
        as_json([entry.raw for entry in found])
        return
    table([_entry_row(entry) for entry in found], ["MODE", "SIZE", "MODIFIED", "NAME"])


@sessions.command()
@click.argument("session_ids", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, session_ids: tuple[str, ...]) -> None:
    """End sessions with everything in them."""
    for session_id in session_ids:
        session.client.sessions.delete(session_id)
        click.echo(f"{session_id}  deleted")


# -- cp ----------------------------------------------------------------------------------------------


def _remote(text: str) -> tuple[str, str] | None:
    """Return session and path of `SESSION:PATH`; None for a file here, which may have a colon behind a slash."""
    session_id, colon, path = text.partition(":")
    if not colon or not session_id or "/" in session_id or "\\" in session_id or len(session_id) == 1:
        return None
    return session_id, path


def _copy_in(session: Session, source: Path, session_id: str, path: str) -> int:
    if not path or path.endswith("/"):
        path += source.name
    meter = Meter(source.name)
    entry = session.client.sessions.get(session_id).files.write(path, source, progress=meter)
    meter.end()
    say(f"wrote {entry.path} ({entry.size} bytes)")
    return 0


def _copy_out(session: Session, session_id: str, path: str, target: Path) -> int:
    if not path or path.endswith("/"):
        raise click.UsageError("SESSION:PATH must be a file")
    files = session.client.sessions.get(session_id).files
    if str(target) == "-":
        files.download(path, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    if target.is_dir():
        name = path.rpartition("/")[2]
        if name in (".", ".."):
            raise click.UsageError("SESSION:PATH must be a file")
        target /= name
    meter = Meter(target.name)
    part = target.with_name(f".{target.name}.part")
    try:
        size = files.download(path, part, progress=meter)
        part.replace(target)
    except RunyardError as e:
        explain(e)
        return SERVICE_FAILED
    finally:
        part.unlink(missing_ok=True)
    meter.end()
    say(f"saved {target} ({size} bytes)")
    return 0


# -- rows --------------------------------------------------------------------------------------------


def _row(info: SessionInfo) -> list[object]:
    return [info.id, info.status, info.language, info.name, info.runs, info.created_at, info.expires_at]


def _entry_row(entry: Entry) -> list[object]:
    name = entry.name + ("/" if entry.type == "directory" else "")
    return [
        entry.mode,
        entry.size,
        entry.modified_at,
        name if entry.target is None else f"{name} -> {entry.target}",
    ]
