"""`runyard languages` and `runyard doctor`: what is there, and whether it can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import click

from runyard._version import __version__
from runyard.cli.session import Session
from runyard.cli.speech import as_json, table
from runyard.config import Config, config_path, is_local, others_may_read, read_config
from runyard.errors import RunyardError
from runyard.text import shown

Finding = tuple[bool | None, str]


@click.command()
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def languages(session: Session, json_: bool) -> None:
    """List the supported languages."""
    found = session.client.languages()
    if json_:
        as_json([language.raw for language in found])
        return
    rows = [
        [one.id, one.version, "yes" if one.ready else "no, building", one.entry_file, " ".join(one.aliases)]
        for one in found
    ]
    table(rows, ["LANGUAGE", "VERSION", "READY", "ENTRY", "ALIASES"])


@click.command()
@click.pass_obj
def doctor(session: Session) -> int:
    """Check the settings, the connection and the service. Exits 0 if programs can be run."""
    good = True
    for fine, text in _findings(session):
        mark = {True: "ok  ", False: "FAIL", None: "note"}[fine]
        click.echo(f"{mark}  {shown(text)}")
        good = good and fine is not False
    return 0 if good else 1


def _findings(session: Session) -> Iterator[Finding]:
    yield None, f"runyard {__version__}"
    try:
        config = session.config
    except RunyardError as e:
        yield False, str(e)
        return
    yield from _settings(config)
    client = session.client
    try:
        health = client.health()
    except RunyardError as e:
        yield False, str(e)
        return
    broken = [name for name, check in (health.get("checks") or {}).items() if check not in ("ok", True)]
    said = f"the service is {health.get('status')}"
    yield health.get("status") == "ok" or None, f"{said}: {', '.join(broken)}" if broken else said
    yield _tried("the key is valid", lambda: client.runs.list(limit=1))
    try:
        found = client.languages()
    except RunyardError as e:
        yield False, str(e)
        return
    ready = [language.id for language in found if language.ready]
    yield bool(ready), f"ready languages: {', '.join(ready) or 'none'}"
    waiting = [language.id for language in found if not language.ready]
    if waiting:
        yield None, f"languages not built yet: {', '.join(waiting)}"


def _settings(config: Config) -> Iterator[Finding]:
    yield None, f"address {config.url} ({config.url_from})"
    if config.api_key is None:
        yield False, "no key: log in with `runyard login`, or set RUNYARD_API_KEY"
    else:
        yield None, f"key {config.api_key[:4]}… ({config.api_key_from})"
    path = config_path()
    if others_may_read(path) and "api_key" in read_config(path):
        yield None, f"other accounts can read the key in {path}: chmod 600 {path}"
    if urlsplit(config.url).scheme == "http" and not is_local(config.url):
        yield None, "the connection is not encrypted: others can read the key and the programs"


def _tried(what: str, ask: Callable[[], object]) -> Finding:
    try:
        ask()
    except RunyardError as e:
        return False, str(e)
    return True, what
