"""`/v1/usage`: what the runs of a key that ended in a span of days used, as JSON or as CSV."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, require_caller
from api.errors import JSON, invalid
from api.http.csv_text import CSV, to_csv
from api.keys.routes import answer
from api.keys.schemas import UsageOut
from api.openapi import examples_keys as examples
from api.openapi.decorator import Answer, Query, operation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from records.usage import UsageRow, UsageTotal

blueprint = Blueprint("usage", __name__)

#: Ten years of rows, a row a day and language.
MOST_DAYS = 3660
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DATE = {"type": "string", "format": "date", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
SUMS = (
    "runs", "cpu_seconds", "wall_seconds", "gb_seconds", "bytes_in", "bytes_out", "sessions", "session_seconds",
    "session_cpu_seconds", "session_gb_seconds", "egress_bytes",
)  # fmt: skip
#: The days of a report.
SPAN = (
    Query("from", "The first day, in UTC. Default: the first day of the month of `to`.", _DATE),
    Query("to", "The last day, included. Default: today.", _DATE),
)


@blueprint.get("/v1/usage")
@operation(
    "Get your usage",
    tag="usage",
    description="As JSON, or with `Accept: text/csv` as one row per day and language.",
    query=SPAN,
    answers={200: Answer("The usage.", {JSON: UsageOut, CSV: {"type": "string"}}, {"november": examples.USAGE})},
    errors=("invalid_value", "unknown_field", "not_acceptable"),
)
def get_usage() -> Response:
    """Return the key's usage between two days, both included, in UTC; of this month by default.

    With `Accept: text/csv` a row for each day and language. A run counts on the day it ended.
    """
    caller = require_caller(reading=True)
    media = usage_media()
    first, last = usage_span()
    rows = context().records.usage.usage(caller.id, first, last)
    if media == CSV:
        response = Response(_csv(rows), content_type=f"{CSV}; charset=utf-8")
        response.headers["Content-Disposition"] = f'attachment; filename="usage-{first}-{last}.csv"'
        return response
    total = UsedSum.of(rows)
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
                    name: UsedSum.of(row for row in rows if row.language == name).fields() for name in languages
                },
            }
        )
    )


@dataclass(frozen=True, slots=True)
class UsedSum:
    """Sums in whole numbers, so that the parts add up to the whole."""

    runs: int
    cpu_ms: int
    wall_ms: int
    memory_mb_ms: int
    bytes_in: int
    bytes_out: int
    sessions: int
    session_ms: int
    session_cpu_ms: int
    session_memory_mb_ms: int
    egress_bytes: int

    @classmethod
    def of(cls, rows: Iterable[UsageRow | UsageTotal]) -> UsedSum:
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
            "sessions": self.sessions,
            "session_seconds": self.session_ms / 1000,
            "session_cpu_seconds": self.session_cpu_ms / 1000,
            "session_gb_seconds": self.session_memory_mb_ms / 1024 / 1000,
            "egress_bytes": self.egress_bytes,
        }


def _csv(rows: Iterable[UsageRow]) -> str:
    return to_csv(
        ("day", "language", *SUMS),
        ((row.day.isoformat(), row.language, *UsedSum.of([row]).fields().values()) for row in rows),
    )


def usage_media(first: str = JSON) -> str:
    """Return JSON or CSV by the request's Accept header; `first` where it admits both. Raises ApiError 400."""
    accepted = request.accept_mimetypes
    if not accepted:
        return first
    best = accepted.best_match([first, *{JSON, CSV} - {first}])
    if best is None:
        raise invalid(f"Accept: must admit {JSON} or {CSV}", param="Accept", code="not_acceptable")
    return best


def usage_span(others: tuple[str, ...] = ()) -> tuple[date, date]:
    """Return the first and the last day. Raises ApiError 400 naming the parameter, also for one not in `others`."""
    known = ("from", "to", *others)
    for name, values in request.args.lists():
        if name not in known:
            raise invalid(
                f"the query has an unknown parameter; supported: {', '.join(known)}", code="unknown_field"
            )
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
