"""`/v1/usage`: what the runs of a key that ended in a span of days used, as JSON or as CSV."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.errors import JSON, invalid
from api.keys.routes import answer
from api.keys.schemas import UsageOut
from api.openapi import examples_keys as examples
from api.openapi.decorator import Answer, Query, operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from records.usage import UsageRow

blueprint = Blueprint("usage", __name__)

CSV = "text/csv"
#: Ten years of rows, a row a day and language.
MOST_DAYS = 3660
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DATE = {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
_COLUMNS = ("day", "language", "runs", "cpu_seconds", "wall_seconds", "gb_seconds", "bytes_in", "bytes_out")


@blueprint.get("/v1/usage")
@operation(
    "Get your usage",
    tag="usage",
    description="As JSON, or with `Accept: text/csv` as one row per day and language.",
    query=(
        Query("from", "The first day, in UTC. Default: the first day of the month of `to`.", _DATE),
        Query("to", "The last day, included. Default: today.", _DATE),
    ),
    answers={200: Answer("The usage.", {JSON: UsageOut, CSV: {"type": "string"}}, {"november": examples.USAGE})},
    errors=("invalid_value", "unknown_field", "not_acceptable"),
)
def get_usage() -> Response:
    """Return the key's usage between two days, both included, in UTC; of this month by default.

    With `Accept: text/csv` a row for each day and language. A run counts on the day it ended.
    """
    caller = require_caller(reading=True)
    media = _media()
    first, last = _span()
    rows = context().records.usage.usage(caller.id, first, last)
    if media == CSV:
        response = Response(_csv(rows), content_type=f"{CSV}; charset=utf-8")
        response.headers["Content-Disposition"] = f'attachment; filename="usage-{first}-{last}.csv"'
        return response
    total = _Used.of(rows)
    languages = sorted({row.language for row in rows})
    return answer(
        UsageOut.model_validate(
            {
                "object": "usage",
                "from": first.isoformat(),
                "to": last.isoformat(),
                "plan": None if caller.plan is None else caller.plan.name,
                "runs_limit": None if caller.plan is None else caller.plan.runs,
                **total.fields(),
                "by_language": {
                    name: _Used.of(row for row in rows if row.language == name).fields() for name in languages
                },
            }
        )
    )


@dataclass(frozen=True, slots=True)
class _Used:
    """Sums in whole numbers, so that the parts add up to the whole."""

    runs: int
    cpu_ms: int
    wall_ms: int
    memory_mb_ms: int
    bytes_in: int
    bytes_out: int

    @classmethod
    def of(cls, rows: Iterable[UsageRow]) -> _Used:
        """Return the sums of the rows."""
        listed = list(rows)
        return cls(*(sum(getattr(row, name) for row in listed) for name in cls.__slots__))

    def fields(self) -> dict[str, int | float]:
        """Return the sums as they are answered."""
        return {
            "runs": self.runs,
            "cpu_seconds": self.cpu_ms / 1000,
            "wall_seconds": self.wall_ms / 1000,
            "gb_seconds": self.memory_mb_ms / 1024 / 1000,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }


def _csv(rows: Iterable[UsageRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        used = _Used.of([row]).fields()
        writer.writerow([row.day.isoformat(), row.language, *(used[name] for name in _COLUMNS[2:])])
    return text.getvalue()


def _media() -> str:
    """JSON, or CSV for who would rather have that. Raises ApiError 400."""
    accepted = request.accept_mimetypes
    if not accepted:
        return JSON
    best = accepted.best_match([JSON, CSV])
    if best is None:
        raise invalid(f"Accept: must admit {JSON} or {CSV}", param="Accept", code="not_acceptable")
    return best


def _span() -> tuple[date, date]:
    """Return the first and the last day. Raises ApiError 400 naming the parameter."""
    for name, values in request.args.lists():
        if name not in ("from", "to"):
            raise invalid("the query has an unknown parameter; supported: from, to", code="unknown_field")
        if len(values) > 1:
            raise invalid(f"{name}: is given twice", param=name)
    today = datetime.now(UTC).date()
    last = _day("to") or today
    first = _day("from") or last.replace(day=1)
    if first > last:
        raise invalid(f"from: {first} is after to, {last}", param="from")
    if (last - first).days >= MOST_DAYS:
        raise invalid(f"from: more than {MOST_DAYS} days before to", param="from")
    return first, last


def _day(name: str) -> date | None:
    text = request.args.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError as e:
        raise invalid(f"{name}: must be a day such as 2026-11-01", param=name) from e
