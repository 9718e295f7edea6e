"""Hold the texts of the document: the service, its tags, tokens, headers, and each error status."""

from __future__ import annotations

from typing import Any

ABOUT: dict[str, Any] = {
    "title": "Runyard",
    "version": "1",
    "summary": "Runs untrusted code in single-use, locked-down sandboxes.",
    "description": (
        "Times are RFC 3339 in UTC (`…_at`), durations whole milliseconds (`…_ms`), sizes bytes "
        "(`…_bytes`, `size`) or mebibytes (`…_mb`).\n\n"
        "An unknown field or parameter of a request is refused. Answers may get more fields.\n\n"
        'Every error has one shape: `{"error": {"message", "type", "param", "code"}}`; `code` is stable.\n\n'
        "`POST`, `PATCH` and `DELETE` spend a token of a key's bucket; `GET` has one ten times as wide."
    ),
}

TAGS = [
    {"name": "runs", "description": "Run a program, look at runs, follow one, end it, forget it."},
    {"name": "files", "description": "Bring files, and fetch what programs left."},
    {"name": "keys", "description": "A key, its plan, and its rotation."},
    {"name": "usage", "description": "What a key has used."},
    {"name": "admin", "description": "Keys and the audit log, for the service's owner."},
    {"name": "service", "description": "What the service says of itself. No token is needed."},
]

SECURITY: dict[str, Any] = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer <token>`."},
    "admin": {"type": "http", "scheme": "bearer", "description": "`ADMIN_TOKEN` as the bearer token."},
    "metrics": {"type": "http", "scheme": "bearer", "description": "`METRICS_TOKEN`, where that is set."},
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A signed link: the `url` of an artifact holds it. It opens one file until it expires.",
    },
}

HEADERS: dict[str, Any] = {
    "RequestId": {
        "description": "This request's id: the client's own, if it sent a sane one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RateLimitLimit": {
        "description": "How large the bucket is.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "RateLimitRemaining": {
        "description": "How much is left in it.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "RateLimitReset": {"description": "Until it is full: `1ms`, `1.5s`, `2m30s`.", "schema": {"type": "string"}},
    "RetryAfter": {
        "description": "In so many seconds it may be tried again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "WholeLength": {
        "description": "How much there is.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^bytes \*/[0-9]+$"},
    },
    "Challenge": {"description": "Which token is missing.", "required": True, "schema": {"type": "string"}},
}

STATUS_TEXTS = {
    400: "The request is wrong: `param` names the field, `message` its bound.",
    401: "No token, or none that is known here.",
    403: "The signed link is not valid, or not any more; or this is not allowed.",
    404: "Unknown, forgotten, or another key's: the three look the same.",
    408: "Not in time.",
    409: "Not in this state.",
    413: "Too large.",
    415: "Not of the type that is taken here.",
    416: "There is no such range.",
    422: "The Idempotency-Key was used for something else.",
    429: "This key's rate, quota or share is used up.",
    500: "The service failed, not the request.",
    503: "Not now; nothing was started or kept.",
}
