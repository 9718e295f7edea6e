"""Parameters, forms and answers that several routes share."""

from __future__ import annotations

from typing import Any

from api.http.media import NDJSON, SSE
from api.http.pagination import LIMIT_DEFAULT, LIMIT_MAX, MAX_CURSOR
from api.openapi.decorator import Answer, Query

PAGING = (
    Query(
        "limit",
        "The maximum number of entries.",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    ),
    Query(
        "after",
        "The `last_id` of the previous page.",
        {"type": "string", "minLength": 1, "maxLength": MAX_CURSOR},
    ),
    Query(
        "order",
        "The newest first (`desc`), or the oldest (`asc`).",
        {"type": "string", "enum": ["desc", "asc"], "default": "desc"},
    ),
)

METADATA = Query(
    "metadata.NAME",
    "Only those whose metadata has this value for NAME, which is any text; may be given for several names. "
    "A page may be shorter than `limit`, or empty, and yet have a `next`.",
    {"type": "string"},
)

IDEMPOTENCY = Query(
    "Idempotency-Key",
    "A repeated key with the same body returns the same run, for 24 hours.",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
    where="header",
)

#: OpenAPI has no parameter of the name Accept: the answers' media types describe a stream.
_LINES: dict[str, Any] = {
    "type": "string",
    "description": "One `Event` as JSON a line.",
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": "#/components/schemas/Event"},
}
_SENT: dict[str, Any] = {
    "type": "string",
    "description": "Server-sent events: `id` is `seq`, `event` the kind, `data` an `Event` as JSON.",
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": "#/components/schemas/Event"},
}
EVENTS: dict[str, Any] = {NDJSON: _LINES, SSE: _SENT}

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The file, with a filename."},
        "purpose": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
    },
}

_BYTES: dict[str, Any] = {"*/*": {"type": "string", "format": "binary"}}
_ETAG = {"ETag": "Identifies the content."}
DOWNLOAD = {
    200: Answer("The whole file.", _BYTES, headers=_ETAG),
    206: Answer(
        "The requested range.", _BYTES, headers=_ETAG | {"Content-Range": "The range and the size of the file."}
    ),
    302: Answer("Redirect to the S3 server (S3_PRESIGN).", headers={"Location": "A link that expires."}),
    304: Answer("Not modified.", headers=_ETAG),
}
