"""`runyard files`: what the service keeps."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runyard.cli.exits import SERVICE_FAILED
from runyard.cli.session import Session
from runyard.cli.speech import Meter, as_json, say, table
from runyard.models import Artifact, File
from runyard.saving import saving


@click.group()
def files() -> None:
    """Upload, list, show, download and delete files."""


@files.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--purpose", help="Your own label for the files.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def upload(session: Session, paths: tuple[Path, ...], purpose: str | None, json_: bool) -> None:
    """Upload files and print their ids."""
    brought = []
    for path in paths:
        meter = Meter(path.name)
        brought.append(session.client.files.upload(path, purpose=purpose, progress=meter))
        meter.end()
        if not json_:
            click.echo(brought[-1].id)
    if json_:
        as_json([file.raw for file in brought])


@files.command("list")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Maximum number of rows."
)
@click.option("--after", metavar="ID", help="Continue after this id.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(session: Session, limit: int, after: str | None, json_: bool) -> None:
    """List the key's files (uploads and artifacts), newest first."""
    page = session.client.files.list(limit=limit, after=after)
    if json_:
        as_json([file.raw for file in page.data])
        return
    table([_row(file) for file in page.data], ["FILE", "SIZE", "TYPE", "CREATED", "NAME"])
    if page.has_more:
        say(f"more rows: --after {page.last_id}")


@files.command()
@click.argument("file_id")
@click.pass_obj
def show(session: Session, file_id: str) -> None:
    """Show the metadata of a file, as JSON."""
    as_json(session.client.files.get(file_id).raw)


@files.command()
@click.argument("file_id")
@click.option("-o", "--out", default=".", type=click.Path(file_okay=False, path_type=Path), help="Target folder.")
@click.option("--stdout", "plain", is_flag=True, help="Write the file to stdout instead.")
@click.pass_obj
def download(session: Session, file_id: str, out: Path, plain: bool) -> int:
    """Download a file under its own (sanitised) name."""
    client = session.client
    file = client.files.get(file_id)
    if plain:
        sys.stdout.buffer.write(client.files.read(file))
        sys.stdout.buffer.flush()
        return 0
    found = Artifact(file.id, file.name, file.name, file.size, file.sha256, file.content_type, None, None)
    meter = Meter(file.name)
    (saved,) = saving([found], out, lambda one, into: client.files.download(one, into, progress=meter))
    meter.end()
    if saved.error is not None:
        say(f"not saved: {saved.error}")
        return SERVICE_FAILED
    say(f"saved {saved.path} ({file.size} bytes)")
    return 0


@files.command()
@click.argument("file_ids", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, file_ids: tuple[str, ...]) -> None:
    """Delete files."""
    for file_id in file_ids:
        session.client.files.delete(file_id)
        click.echo(f"{file_id}  deleted")


def _row(file: File) -> list[object]:
    return [file.id, file.size, file.content_type, file.created_at, file.name]
