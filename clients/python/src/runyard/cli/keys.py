"""`runyard keys`."""

from __future__ import annotations

import click

from runyard.cli.session import Session
from runyard.cli.speech import as_json, say
from runyard.models import Key


@click.group()
def keys() -> None:
    """Create, show, rotate and revoke API keys."""


@keys.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def create(session: Session, json_: bool) -> None:
    """Create a key, if the service allows it. The key is shown only once."""
    _show_new(session.client.keys.create(), json_=json_)


@keys.command()
@click.pass_obj
def show(session: Session) -> None:
    """Show the key in use, as JSON."""
    as_json(session.client.keys.me().raw)


@keys.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def rotate(session: Session, json_: bool) -> None:
    """Replace the key in use with a new one."""
    key = session.client.keys.rotate()
    _show_new(key, json_=json_)
    say(f"the old key stays valid until {key.raw.get('previous_valid_until')}")


@keys.command()
@click.confirmation_option("--yes", prompt="Revoke the key in use?")
@click.pass_obj
def delete(session: Session) -> None:
    """Revoke the key in use."""
    session.client.keys.delete()
    say("deleted")


def _show_new(key: Key, *, json_: bool) -> None:
    if json_:
        as_json(key.raw)
        return
    click.echo(key.key)
    say("store this key now, it is not shown again: use `runyard login`, or set it as RUNYARD_API_KEY")
