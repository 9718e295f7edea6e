"""`/v1/admin/usage`: who used how much, by key, plan, language and day, as JSON or as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from flask import Blueprint, Response, request

from api.context import context, require_admin
from api.errors import JSON, invalid
from api.http.csv_text import CSV, to_csv
from api.http.json_response import json_response
from api.keys.schemas import AdminUsageOut
from api.keys.usage_routes import SPAN, SUMS, UsedSum, usage_media, usage_span
from api.openapi import examples_keys as examples
from api.openapi.decorator import Answer, Query, operation
from records.usage import UsageGroup, UsageQuery, UsageTotal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

blueprint = Blueprint("admin_usage", __name__)

GROUPS: tuple[UsageGroup, ...] = get_args(UsageGroup)
#: Rows of one report: some megabytes of JSON.
MOST_ROWS = 50_000
#: No key, plan or language has a longer name.
_MAX_NAME = 100
_OF = ("key", "plan", "language")
_ONLY = "Only the usage of this {}."


@blueprint.get("/v1/admin/usage")
@operation(
    "Get the usage of all keys",
    tag="admin",
    description=(
        "One row for each combination of the values of `group_by`. As JSON, or as CSV with `format=csv` or "
        "`Accept: text/csv`. The plan is the one that the key has now; static keys have none."
    ),
    auth=("admin",),
    query=(
        *SPAN,
        Query(
            "group_by",
            "Any of `key`, `plan`, `language`, `day`, separated by commas.",
            {
                "type": "string",
                "pattern": "^(key|plan|language|day)(,(key|plan|language|day)){0,3}$",
                "default": "key",
            },
        ),
        *(Query(name, _ONLY.format(name), {"type": "string", "maxLength": _MAX_NAME}) for name in _OF),
        Query(
            "format",
            "`csv` or `json`; takes precedence over `Accept`.",
            {"type": "string", "enum": ["json", "csv"]},
        ),
    ),
    answers={
        200: Answer(
            "The usage.", {JSON: AdminUsageOut, CSV: {"type": "string"}}, {"november": examples.ADMIN_USAGE}
        )
    },
    errors=("invalid_value", "unknown_field", "not_acceptable", "too_many"),
)
def admin_get_usage() -> Response:
    """Return the usage of all keys between two days, both included, in UTC; of this month by default."""
    require_admin()
    first, last = usage_span(("group_by", *_OF, "format"))
    by = _groups(request.args.get("group_by", "key"))
    media = _media(request.args.get("format"))
    key, plan, language = (_name(name) for name in _OF)
    rows = context().records.usage.report(
        UsageQuery(first, last, by, owner=key, plan=plan, language=language), limit=MOST_ROWS + 1
    )
    if len(rows) > MOST_ROWS:
        raise invalid(
            f"group_by: the report has more than {MOST_ROWS} rows, the maximum: give fewer days or groups",
            param="group_by",
            code="too_many",
        )
    labels = _labels(rows)
    if media == CSV:
        response = Response(_csv(by, rows, labels), content_type=f"{CSV}; charset=utf-8")
        response.headers["Content-Disposition"] = f'attachment; filename="usage-{first}-{last}.csv"'
        return response
    return json_response(
        {
            "object": "usage_report",
            "from": first.isoformat(),
            "to": last.isoformat(),
            "group_by": by,
            "data": [_row(row, labels) for row in rows],
            "total": UsedSum.of(rows).fields(),
        }
    )


def _row(row: UsageTotal, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "key": row.owner,
        "label": None if row.owner is None else labels.get(row.owner, ""),
        "plan": row.plan,
        "language": row.language,
        "day": None if row.day is None else row.day.isoformat(),
        **UsedSum.of([row]).fields(),
    }


def _csv(by: Sequence[UsageGroup], rows: Iterable[UsageTotal], labels: dict[str, str]) -> str:
    columns = [column for name in by for column in (("key", "label") if name == "key" else (name,))] + [*SUMS]
    return to_csv(columns, ([found[name] for name in columns] for found in (_row(row, labels) for row in rows)))


def _labels(rows: Iterable[UsageTotal]) -> dict[str, str]:
    owners = {row.owner for row in rows if row.owner is not None}
    return key_labels(owners)


def key_labels(owners: set[str]) -> dict[str, str]:
    """Return the labels of keys, static and stored, by id; keys that are not there any more are left out."""
    static = {caller.id: caller.label for caller in context().static_keys if caller.id in owners}
    return static | context().records.keys.labels(owners - static.keys())


def _groups(text: str) -> tuple[UsageGroup, ...]:
    names = text.split(",")
    if len({*names}) != len(names) or not {*names} <= {*GROUPS}:
        raise invalid(
            f"group_by: must be any of {', '.join(GROUPS)}, each once, separated by commas", param="group_by"
        )
    return tuple(cast("UsageGroup", name) for name in names)


def _media(given: str | None) -> str:
    if given is None:
        return usage_media()
    if given not in ("json", "csv"):
        raise invalid("format: must be json or csv", param="format")
    return CSV if given == "csv" else JSON


def _name(name: str) -> str | None:
    text = request.args.get(name)
    if text is not None and len(text) > _MAX_NAME:
        raise invalid(f"{name}: {len(text)} characters, the maximum is {_MAX_NAME}", param=name)
    return text
