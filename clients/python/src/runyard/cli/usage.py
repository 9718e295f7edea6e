"""`runyard usage`: what the key's runs took, as a table."""

from __future__ import annotations

from typing import Any

import click

from runyard.cli.session import Session
from runyard.cli.speech import as_json, say, table
from runyard.models import Row

_HEADS = ["LANGUAGE", "RUNS", "CPU", "WALL", "GB-SECONDS"]


@click.command(short_help="Show the usage of the key.")
@click.option("--from", "begin", metavar="DAY", help="First day, YYYY-MM-DD in UTC [the first of the month].")
@click.option("--to", "end", metavar="DAY", help="Last day, included [today].")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
@click.pass_obj
def usage(session: Session, begin: str | None, end: str | None, json_: bool) -> None:
    """Show the usage of the key: a row for each language, and the sum."""
    found = session.client.usage(begin, end)
    if json_:
        as_json(found)
        return
    languages = sorted((Row(found, "usage").part("by_language") or {}).items())
    table([_row(name, taken) for name, taken in languages] + [_row("all", found)], _HEADS)
    say(_summary(found))


def _row(name: str, taken: dict[str, Any]) -> list[object]:
    row = Row(taken, "usage")
    amounts = [row.amount(field) for field in ("cpu_seconds", "wall_seconds", "gb_seconds")]
    cpu_s, wall_s, gb_s = amounts
    return [name, row.number("runs", 0), f"{cpu_s:.3f} s", f"{wall_s:.3f} s", f"{gb_s:.3f}"]


def _summary(found: dict[str, Any]) -> str:
    """Return the days, the traffic and what is left of the quota as a sentence."""
    row = Row(found, "usage")
    runs_limit = row.number_or_none("runs_limit")
    quota = "" if runs_limit is None else f", {row.number('runs', 0)} of {runs_limit} runs used"
    days = f"{row.text('from', '?')} to {row.text('to', '?')} (UTC)"
    return f"{days}: {row.number('bytes_in', 0)} bytes in, {row.number('bytes_out', 0)} bytes out{quota}"
