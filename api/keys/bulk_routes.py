"""`POST /v1/admin/keys/bulk`: create many keys from a CSV table, all or none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, require_admin
from api.errors import JSON, ApiError, invalid
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, read_body
from api.http.csv_text import CSV, from_csv, to_csv
from api.keys.routes import answer, keyring
from api.keys.schemas import BulkKeyOut, BulkKeysOut, unknown_plan
from api.keys.service import LABEL_RULE, is_label
from api.keys.usage_routes import usage_media
from api.openapi import examples_keys as examples
from api.openapi.decorator import Answer, RequestBody, operation
from api.openapi.error_codes import CSV_BODY
from config.clock import rfc3339

if TYPE_CHECKING:
    from api.keys.service import IssuedKey

blueprint = Blueprint("bulk_keys", __name__)

ADMIN = "admin"
MOST_KEYS = 10_000
MAX_BYTES = 2 * 1024 * 1024
_IN = ("label", "plan")
_OUT = ("id", "label", "plan", "key", "created_at")


@blueprint.post("/v1/admin/keys/bulk")
@operation(
    "Create many keys",
    tag="admin",
    description=(
        f"The body is a CSV table with columns `label` and `plan` and at most {MOST_KEYS} rows. Either all keys "
        "are created or none. Responds with CSV; with JSON for `Accept: application/json`. In CSV a label that "
        "begins like a formula has an apostrophe in front."
    ),
    auth=("admin",),
    body=RequestBody({CSV: {"type": "string"}}, {"two": examples.KEYS_CSV}),
    answers={
        201: Answer(
            "The keys. Their secrets are shown only here.",
            {CSV: {"type": "string"}, JSON: BulkKeysOut},
            {JSON: examples.BULK_KEYS},
        )
    },
    errors=(*CSV_BODY, "unknown_plan", "not_acceptable"),
)
def admin_create_keys() -> Response:
    """Make keys from a CSV table. 201 the keys, shown this once; 400 names the first wrong row; 413; 415."""
    try:
        require_admin()
        media = CSV if not request.accept_mimetypes else usage_media(first=CSV)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    wanted = _wanted()
    made = keyring().make_many(wanted, ADMIN)
    if media == CSV:
        rows = ([values[name] for name in _OUT] for values in map(_values, made))
        return Response(to_csv(_OUT, rows), 201, content_type=f"{CSV}; charset=utf-8")
    return answer(BulkKeysOut(object="list", data=[BulkKeyOut(object="key", **_values(key)) for key in made]), 201)


def _wanted() -> list[tuple[str, str]]:
    """Return (plan, label) of each row. Raises ApiError."""
    if request.mimetype != CSV:
        drain(request)
        raise ApiError(
            415,
            "The body must be CSV: send the header 'Content-Type: text/csv'.",
            code="unsupported_media_type",
            param="Content-Type",
        )
    if (request.content_length or 0) > MAX_BYTES:
        drain(request)
        raise _too_large()
    data = read_body(request)
    if len(data) > MAX_BYTES:
        raise _too_large()
    plans = context().plans
    wanted: list[tuple[str, str]] = []
    for number, row in enumerate(from_csv(data, _IN, most_rows=MOST_KEYS, required=("plan",)), start=1):
        plan, label = row["plan"], row.get("label", "")
        if plan not in plans:
            error = unknown_plan(list(plans)).error
            raise invalid(f"Row {number}, {error.message}", param="plan", code=error.code)
        if not is_label(label):
            raise invalid(f"Row {number}, label: {LABEL_RULE}", param="label")
        wanted.append((plan, label))
    return wanted


def _values(made: IssuedKey) -> dict[str, str]:
    stored = made.stored
    return {
        "id": stored.id,
        "label": stored.label,
        "plan": stored.plan,
        "key": made.text,
        "created_at": rfc3339(stored.created_at_ms),
    }


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than the maximum of {MAX_BYTES} bytes.", code="request_too_large")
