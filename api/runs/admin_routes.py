"""`/v1/admin/runs`: search for runs of all keys, by key, status, language, metadata and error text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from api.context import context, next_url, require_admin
from api.errors import invalid
from api.http.json_response import document_response
from api.http.pagination import STATUSES, list_body, parse_list, parse_status
from api.keys.admin_usage_routes import key_labels
from api.openapi import examples
from api.openapi.decorator import Json, Query, operation
from api.openapi.error_codes import LISTED
from api.openapi.models import AdminRunList
from api.openapi.parameters import METADATA, PAGING
from records.runs import ERROR_BYTES, RunFilter

if TYPE_CHECKING:
    from records.runs import Run

blueprint = Blueprint("admin_runs", __name__)

#: No key or language has a longer name.
_MAX_NAME = 100
#: A part of an error text.
MAX_ERROR = 200
_COPIED = (
    "exit_code", "signal", "timed_out", "oom_killed", "cancelled", "usage", "limits", "metadata", "created_at",
    "started_at", "finished_at", "error",
)  # fmt: skip


@blueprint.get("/v1/admin/runs")
@operation(
    "Search for runs of all keys",
    tag="admin",
    description="All filters must match. Runs are shown without their program, input and output.",
    auth=("admin",),
    query=(
        *PAGING,
        METADATA,
        Query("key", "Only runs of the key with this id.", {"type": "string", "maxLength": _MAX_NAME}),
        Query("status", "Only runs of this status.", {"type": "string", "enum": list(STATUSES)}),
        Query(
            "language", "Only runs of this language, by id or alias.", {"type": "string", "maxLength": _MAX_NAME}
        ),
        Query(
            "error",
            "Only runs whose error text contains this, in any case: the code and message of the service's error, "
            f"else the last {ERROR_BYTES} bytes of stderr, or of the compiler's. Runs that succeeded have none.",
            {"type": "string", "minLength": 1, "maxLength": MAX_ERROR},
        ),
    ),
    answers={200: Json("The newest first, unless `order=asc`.", AdminRunList, {"one": examples.ADMIN_RUN_PAGE})},
    errors=(*LISTED, "too_many"),
)
def admin_list_runs() -> Response:
    """List runs of all keys, page by page: the newest first unless `order=asc`."""
    require_admin()
    asked = parse_list(request.args, filters=("key", "status", "language", "error"), by_metadata=True)
    given = asked.filters
    language = _bounded("language", given.get("language"), _MAX_NAME)
    if language is not None:
        language = context().languages.known_name_of(language)
    wanted = RunFilter(
        owner=_bounded("key", given.get("key"), _MAX_NAME),
        status=parse_status(given.get("status")),
        language=language,
        metadata=asked.metadata,
        error=_bounded("error", given.get("error"), MAX_ERROR),
    )
    page = context().records.runs.search(wanted, limit=asked.limit, after=asked.after, order=asked.order)
    labels = key_labels({run.owner for run in page.items})
    rows = [(run.id, _row(run, labels)) for run in page.items]
    body = list_body(rows, has_more=page.has_more, next_url=next_url(page.cursor))
    return document_response(body)


def _row(run: Run, labels: dict[str, str]) -> dict[str, Any]:
    document = orjson.loads(run.document)
    return {
        "id": run.id,
        "object": "run",
        "key": run.owner,
        "label": labels.get(run.owner, ""),
        "status": run.status,
        "language": run.language,
        **{name: document.get(name) for name in _COPIED},
    }


def _bounded(name: str, text: str | None, most: int) -> str | None:
    if text is not None and not 0 < len(text) <= most:
        raise invalid(f"{name}: must be 1 to {most} characters", param=name)
    return text
