"""`runyard login`, `runyard logout` and `runyard whoami`: the key in the config file."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import click

from runyard.cli.session import Session
from runyard.cli.speech import as_json, lines, say
from runyard.client import Client
from runyard.config import DEFAULT_URL, check_key, check_url, config_path, is_local, read_config, write_config
from runyard.models import Key

_MAX_KEY_BYTES = 4096


@click.command(short_help="Store the address and the key.")
@click.argument("url", required=False)
@click.pass_obj
def login(session: Session, url: str | None) -> None:
    """Store the address and the key in the config file, once the service accepts them.

    The key is asked for, or read from stdin if that is not a terminal. It is written to a file that only you can
    read (mode 0600).

    \b
      runyard login
      runyard login https://runyard.example.org
      runyard login http://localhost:8080 < key.txt
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    if url is not None and session.url is not None and url != session.url:
        raise click.UsageError("use either URL or --url, not both")
    path = config_path()
    address = check_url(
        url or session.url or os.environ.get("RUNYARD_URL") or read_config(path).get("url") or DEFAULT_URL, "login"
    )
    if urlsplit(address).scheme == "http" and not is_local(address):
        say("the connection is not encrypted: others can read the key and the programs")
    key = check_key(session.api_key or _ask(address), "login")
    if not key:
        raise click.UsageError("no key was given: type it, or write it to this command's stdin")
    with Client(address, key) as client:
        known = client.keys.me()
    write_config(path, {"url": address, "api_key": key})
    say(f"logged in to {address} as {_name(known)}; stored in {path}")
    for name, value in (("RUNYARD_URL", address), ("RUNYARD_API_KEY", key)):
        if os.environ.get(name, value) not in ("", value):
            say(f"{name} is set in this environment and overrides what was stored: unset {name}")


@click.command()
def logout() -> None:
    """Remove the key from the config file. The key itself stays valid: `runyard keys delete` revokes it."""
    path = config_path()
    stored = read_config(path)
    if stored.pop("api_key", None) is None:
        say(f"no key is stored in {path}")
    else:
        write_config(path, stored)
        say(f"removed the key from {path}")
    if os.environ.get("RUNYARD_API_KEY"):
        say("RUNYARD_API_KEY is still set in this environment")


@click.command(short_help="Show the service and the key in use.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def whoami(session: Session, json_: bool) -> None:
    """Show the service and the key in use, and what is left of its quota."""
    key = session.client.keys.me()
    if json_:
        as_json(key.raw)
        return
    config = session.config
    left = key.raw.get("runs_left")
    facts = {
        "service": f"{config.url} (from {config.url_from})",
        "key": f"{_name(key)} (from {config.api_key_from})",
        "plan": key.plan or "none",
        "runs left": "no limit" if left is None else str(left),
    }
    for name, fact in facts.items():
        click.echo(f"{name:<9}  {lines(fact)}")


def _ask(address: str) -> str:
    """Read the key: hidden from a terminal, else the first line of stdin."""
    if sys.stdin.isatty():
        return str(click.prompt(f"API key for {address}", hide_input=True, err=True)).strip()
    return sys.stdin.buffer.readline(_MAX_KEY_BYTES).decode(errors="replace").strip()


def _name(key: Key) -> str:
    label = key.raw.get("label")
    return f"{label} ({key.id})" if isinstance(label, str) and label else key.id
