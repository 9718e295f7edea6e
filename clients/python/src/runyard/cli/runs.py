"""`runyard runs`: what became of programs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from runyard.cli.execute import save_all
from runyard.cli.exits import SERVICE_FAILED, exit_code
from runyard.cli.results import pass_on
from runyard.cli.session import Session
from runyard.cli.speech import as_json, lines, say, table
from runyard.models import Run


@click.group()
def runs() -> None:
    """List, show, follow, save, cancel and delete runs."""


@runs.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Maximum number of rows."
)
@click.option("--after", metavar="ID", help="Continue after this id.")
@click.option("--status", help="Only runs with this status.")
@click.option("-r", "--runtime", "language", help="Only runs in this language.")
@click.option("--function", help="Only builds and calls of this function.")
@click.option("--oldest-first", is_flag=True, help="List the oldest first.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(  # one argument per option
    session: Session,
    limit: int,
    after: str | None,
    status: str | None,
    language: str | None,
    function: str | None,
    oldest_first: bool,
    json_: bool,
) -> None:
    """List the key's runs, newest first."""
    order = "asc" if oldest_first else None
    page = session.client.runs.list(
        limit=limit, after=after, order=order, status=status, language=language, function=function
    )
    if json_:
        as_json([run.raw for run in page.data])
        return
    table([_row(run) for run in page.data], ["RUN", "STATUS", "LANGUAGE", "EXIT", "WALL", "CREATED"])
    if page.has_more:
        say(f"more rows: --after {page.last_id}")


@runs.command()
@click.argument("run_id")
@click.option("--request", "include", is_flag=True, help="Include the original request.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(session: Session, run_id: str, include: bool, json_: bool) -> None:
    """Show a run."""
    run = session.client.runs.get(run_id, include_request=include)
    if json_ or include:
        as_json(run.raw)
        return
    table([_row(run)], ["RUN", "STATUS", "LANGUAGE", "EXIT", "WALL", "CREATED"])
    for name, text in (("stdout", run.stdout), ("stderr", run.stderr)):
        if text:
            click.echo(f"-- {name}\n{lines(text)}")
    for artifact in run.artifacts:
        click.echo(f"-- artifact {artifact.id}  {artifact.size} bytes  {lines(artifact.path)}")


@runs.command()
@click.argument("run_id")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events with a greater sequence number.")
@click.option("--json", "json_", is_flag=True, help="Print each event as a line of JSON.")
@click.pass_obj
def follow(session: Session, run_id: str, after: int, json_: bool) -> int:
    """Show a run's output, live or afterwards, and exit with its exit code. Ctrl-C does not stop the run."""
    stream = session.client.runs.events(run_id, after=after, notice=lambda error, _s: say(str(error)))
    for event in stream:
        if json_:
            data = event.data.raw if isinstance(event.data, Run) else event.data
            click.echo(json.dumps({"seq": event.seq, "event": event.event, "data": data, "t_ms": event.t_ms}))
        else:
            pass_on(event)
    return exit_code(stream.result())


@runs.command()
@click.argument("run_id")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def save(session: Session, run_id: str, folder: Path) -> int:
    """Save the artifacts of a run to FOLDER."""
    return 0 if save_all(session.client, session.client.runs.get(run_id), folder, quiet=False) else SERVICE_FAILED


@runs.command()
@click.argument("run_ids", nargs=-1, required=True)
@click.pass_obj
def cancel(session: Session, run_ids: tuple[str, ...]) -> None:
    """Cancel runs."""
    for run_id in run_ids:
        run = session.client.runs.cancel(run_id)
        click.echo(f"{run.id}  {run.status}")


@runs.command()
@click.argument("run_ids", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, run_ids: tuple[str, ...]) -> None:
    """Delete ended runs and their artifacts."""
    for run_id in run_ids:
        session.client.runs.delete(run_id)
        click.echo(f"{run_id}  deleted")


def _row(run: Run) -> list[object]:
    ended = run.signal or run.exit_code
    return [run.id, run.status, run.language, ended, f"{run.usage.wall_ms} ms", run.created_at]
