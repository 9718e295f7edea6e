"""Hold the texts of the document: the service, its tags, tokens, headers, and each error status."""

from __future__ import annotations

from typing import Any

ABOUT: dict[str, Any] = {
    "title": "Runyard",
    "version": "1",
    "license": {"name": "MIT", "identifier": "MIT"},
    "summary": "Runs untrusted code in single-use, locked-down sandboxes.",
    "description": (
        "Times are RFC 3339 in UTC (`…_at`), durations whole milliseconds (`…_ms`), sizes bytes "
        "(`…_bytes`, `size`) or mebibytes (`…_mb`).\n\n"
        "Unknown fields and parameters of a request are rejected. Responses may get more fields later.\n\n"
        'Every error has the same shape: `{"error": {"message", "type", "param", "code"}}`; `code` is stable.\n\n'
        "Each key has two rate limits: one for `POST` and `DELETE`, and one that is ten times as large for `GET`."
    ),
}

TAGS = [
    {"name": "runs", "description": "Run programs; list, follow, cancel and delete runs."},
    {
        "name": "sessions",
        "description": "Sandboxes that stay alive: runs, processes and files in them.",
    },
    {"name": "packages", "description": "Layers of the packages that runs and sessions ask for."},
    {"name": "functions", "description": "Named, versioned programs, built once and called with JSON."},
    {"name": "files", "description": "Upload files, and download the files that programs wrote."},
    {"name": "keys", "description": "Keys, their plans, and their rotation."},
    {"name": "usage", "description": "Resource usage of a key."},
    {"name": "admin", "description": "Keys and the audit log, for the service's owner."},
    {"name": "piston", "description": "Piston's API v2, for its clients: `/api/v2` and `/api/v2/piston`."},
    {"name": "runakode", "description": "runakode's API, for its clients: `/api` and `/health`."},
    {"name": "runtools", "description": "RunTools' API, for its clients: `/v1/execute` and `/v1/runtimes`."},
    {
        "name": "agent-coderunner",
        "description": (
            "agent-coderunner's API, for its clients: `/api/execute`, `/api/run`, `/api/sessions` and others, and "
            "the same beneath `/v1/agent-coderunner`."
        ),
    },
    {"name": "tinirun", "description": "tinirun's API, for its clients: `/api/code/run` and `/api/function`."},
    {"name": "service", "description": "Health, languages and documentation of the service. No token is needed."},
]

SECURITY: dict[str, Any] = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer <token>`."},
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key, as other services take it.",
    },
    "runner_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Runner-Api-Key",
        "description": "A key, as tinirun takes it.",
    },
    "query_key": {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "A key in the address, for clients of agent-coderunner that can send no header.",
    },
    "admin": {"type": "http", "scheme": "bearer", "description": "`ADMIN_TOKEN` as the bearer token."},
    "metrics": {"type": "http", "scheme": "bearer", "description": "`METRICS_TOKEN`, if it is set."},
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": (
            "The token of a signed link, from the `url` of an artifact. It gives access to one file until it "
            "expires."
        ),
    },
}

HEADERS: dict[str, Any] = {
    "RequestId": {
        "description": "The id of this request: the client's own if it is well-formed.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "RateLimitLimit": {
        "description": "The size of the rate-limit bucket.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "RateLimitRemaining": {
        "description": "The remaining tokens of the bucket.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "RateLimitReset": {
        "description": "Time until the bucket is full: `1ms`, `1.5s`, `2m30s`.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds until a retry can succeed.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "WholeLength": {
        "description": "The size of the file.",
        "required": True,
        "schema": {"type": "string", "pattern": r"^bytes \*/[0-9]+$"},
    },
    "Challenge": {"description": "The authentication scheme.", "required": True, "schema": {"type": "string"}},
}

STATUS_TEXTS = {
    400: "Invalid request: `param` names the field, `message` its bound.",
    401: "The token is missing or invalid.",
    403: "The signed link is invalid or has expired, or the call is not allowed.",
    404: "Not found: unknown, deleted, or owned by another key.",
    408: "The request did not arrive in time.",
    409: "Not possible in the present state.",
    410: "The session has ended.",
    413: "The body, file or quota is too large.",
    415: "Unsupported media type.",
    416: "The range is outside the file.",
    422: "The Idempotency-Key was used with another request.",
    426: "The call is a WebSocket.",
    429: "The key's rate limit, quota or share is used up.",
    500: "The service failed, not the request.",
    503: "Temporarily unavailable; nothing was started or stored.",
    507: "The disk of the session is full.",
}
