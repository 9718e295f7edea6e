"""Every error of the API by its stable code, with an example of it, and which ones routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import error_type

if TYPE_CHECKING:
    from typing import Any

    from api.openapi.decorator import Auth


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One code: its status, an example of its message and its field. `run_id` is set if the error names a run."""

    status: int
    message: str
    param: str | None = None
    run_id: bool = False

    def example(self, code: str) -> dict[str, Any]:
        """Return a body as it is answered."""
        code = code.partition("@")[0]
        error = {"message": self.message, "type": error_type(self.status), "param": self.param, "code": code}
        return {"error": error} | ({"run_id": EXAMPLE_RUN_ID} if self.run_id else {})


EXAMPLE_RUN_ID = "run_7Hq2mXbW9sKcR4tYvLzA3nFd"

#: A code that has another status at some routes is there again, as `code@status`.
FAULTS: dict[str, ErrorCode] = {
    # 400
    "bad_request": ErrorCode(400, "The request could not be understood."),
    "duplicate_path": ErrorCode(400, "files.1.path: the same path is given twice", "files.1.path"),
    "files_too_large": ErrorCode(400, "files: are larger together than /work, half of memory_mb", "files"),
    "incomplete_body": ErrorCode(400, "The body ended before its Content-Length."),
    "invalid_archive": ErrorCode(400, "../../etc/cron.d/x: a path with '..'", "path"),
    "invalid_base64": ErrorCode(400, "files.0.content: is not valid base64", "files.0.content"),
    "invalid_cursor": ErrorCode(400, "after: is not an id of this list", "after"),
    "invalid_csv": ErrorCode(400, "Row 2 has 3 cells, and the header 2."),
    "invalid_json": ErrorCode(
        400, "The body is not valid JSON: trailing comma is not allowed (line 3, column 1, byte 42)."
    ),
    "invalid_input": ErrorCode(400, "input.items.0: must be of type integer", "input.items.0"),
    "invalid_multipart": ErrorCode(400, "The body is not well-formed multipart/form-data."),
    "invalid_package": ErrorCode(
        400,
        "packages.0: must not be a URL or a path; an entry is a name with version specifiers, such as "
        "requests==2.32.3, numpy>=1.26,<3 or httpx[http2]",
        "packages.0",
    ),
    "invalid_path": ErrorCode(400, "files.0.path: must not contain '..'", "files.0.path"),
    "invalid_type": ErrorCode(400, "code: must be a string", "code"),
    "invalid_value": ErrorCode(400, "limit: must be an integer from 1 to 100", "limit"),
    "limit_below_minimum": ErrorCode(400, "limits.memory_mb: 1 is below the minimum of 16", "limits.memory_mb"),
    "limit_exceeds_maximum": ErrorCode(
        400, "limits.timeout_ms: 99999 exceeds this key's maximum of 60000", "limits.timeout_ms"
    ),
    "missing_field": ErrorCode(400, "language: is required", "language"),
    "not_acceptable": ErrorCode(400, "Accept: a stream is application/x-ndjson or text/event-stream", "Accept"),
    "not_supported": ErrorCode(400, "isolation: gvisor is not available here", "isolation"),
    "package_build_failed": ErrorCode(
        400, "packages: were not ready within 180 s (PACKAGES_TIMEOUT_S)", "packages"
    ),
    "package_not_allowed": ErrorCode(
        400,
        "packages.0: PACKAGES_FILE of this service does not permit it; permitted: numpy>=1.26,<3",
        "packages.0",
    ),
    "package_not_found": ErrorCode(400, "packages.0: the registry has no such package or version", "packages.0"),
    "too_long": ErrorCode(400, "code: 1048577 bytes, the maximum is 1048576", "code"),
    "too_many": ErrorCode(400, "args: 65 entries, the maximum is 64", "args"),
    "unknown_field": ErrorCode(
        400, "timeout: unknown field; did you mean limits.timeout_ms? supported: language, code, limits", "timeout"
    ),
    "unknown_language": ErrorCode(
        400, "language: unknown; did you mean python? supported: bash, python", "language"
    ),
    "unknown_plan": ErrorCode(400, "plan: unknown; supported: free, pro, unlimited", "plan"),
    "file_not_found@400": ErrorCode(400, "files.0.id: there is no such file", "files.0.id"),
    # 401, 403
    "missing_token": ErrorCode(401, "Missing token: send 'Authorization: Bearer <token>'."),
    "malformed_token": ErrorCode(401, "The header must be 'Authorization: Bearer <token>'."),
    "invalid_token": ErrorCode(401, "Invalid token."),
    "disabled_key": ErrorCode(401, "This key is disabled."),
    "self_service_off": ErrorCode(403, "Self-service keys are disabled: ask the operator for a key."),
    "unknown_plan@403": ErrorCode(403, "The plan of this key no longer exists: ask the operator."),
    "file_not_permitted": ErrorCode(403, "Read-only file system", "path"),
    "network_not_allowed": ErrorCode(
        403,
        "network.allow.0: *.example.org is not permitted: EGRESS_ALLOW of this service does not permit it",
        "network.allow.0",
    ),
    "admin_off": ErrorCode(403, "Admin calls are off: the operator turns them on by setting ADMIN_TOKEN."),
    "link_expired": ErrorCode(403, "token: the link has expired", "token"),
    "link_invalid": ErrorCode(403, "token: the link is not valid", "token"),
    "ticket_invalid": ErrorCode(403, "ticket: is unknown, used, or older than 30 s", "ticket"),
    "foreign_origin": ErrorCode(403, "Origin: is not this service's own.", "Origin"),
    # 404, 405, 408, 409
    "not_found": ErrorCode(
        404, "No such path; did you mean /v1/runs? The API is described at /openapi.json and /docs."
    ),
    "run_not_found": ErrorCode(404, "There is no such run.", "id"),
    "file_not_found": ErrorCode(404, "There is no such file.", "id"),
    "method_not_allowed": ErrorCode(405, "Method not allowed; allowed: GET, POST."),
    "request_timeout": ErrorCode(408, "The request did not arrive in time."),
    "key_not_found": ErrorCode(404, "There is no such key.", "id"),
    "static_key": ErrorCode(409, "This key is defined in API_KEYS and can only be changed there."),
    "key_already_rotated": ErrorCode(409, "This secret was rotated before: only the newest one can be rotated."),
    "key_revoked": ErrorCode(409, "This key has been revoked.", "id"),
    "layer_not_found": ErrorCode(404, "There is no such layer.", "id"),
    "function_not_found": ErrorCode(404, "There is no such function.", "name"),
    "function_failed": ErrorCode(409, "name: version 2 of add could not be built; its log says why", "name"),
    "too_many_functions": ErrorCode(
        409, "name: this key may have 100 functions; delete one, or use one of its names again", "name"
    ),
    "session_not_found": ErrorCode(404, "There is no such session.", "id"),
    "process_not_found": ErrorCode(404, "there is no such process in this session"),
    "context_not_found": ErrorCode(404, "there is no such context in this session", "context"),
    "watcher_not_found": ErrorCode(404, "there is no such watcher in this session"),
    "not_a_file": ErrorCode(409, "this is not a regular file", "path"),
    "stdin_closed": ErrorCode(
        409, "The run takes no input: it was started without stdin_open, or has ended.", "id"
    ),
    "not_a_terminal": ErrorCode(409, "this process has no terminal: it was started without pty", "pty"),
    "not_a_directory": ErrorCode(409, "this is not a directory", "path"),
    "file_exists": ErrorCode(409, "there is something at the target already", "path"),
    "session_busy": ErrorCode(409, "so many runs wait in this session already; try again later"),
    "too_many_contexts": ErrorCode(409, "a session has at most 16 contexts"),
    "name_in_use": ErrorCode(409, "name: another context of this session has it", "name"),
    "kernel_ended": ErrorCode(409, "the kernel of this context has ended; its next run starts another"),
    "session_paused": ErrorCode(409, "this session is paused; resume it first"),
    "external_id_in_use": ErrorCode(409, "external_id: another session of yours has it", "external_id"),
    "session_differs": ErrorCode(409, "name: a live session of this name has another language", "name"),
    "session_ended": ErrorCode(410, "This session has ended: idle.", "id"),
    "run_not_ended": ErrorCode(409, "The run has not ended: cancel it first.", "id"),
    "idempotency_key_in_use": ErrorCode(
        409, "Idempotency-Key: its run has not ended", "Idempotency-Key", run_id=True
    ),
    "idempotency_key_used": ErrorCode(409, "Idempotency-Key: its run was deleted", "Idempotency-Key", run_id=True),
    # 413 to 431
    "request_too_large": ErrorCode(413, "The body is larger than the maximum of 16777216 bytes."),
    "file_too_large": ErrorCode(413, "file: is larger than the maximum of 52428800 bytes", "file"),
    "storage_quota_exceeded": ErrorCode(
        413, "file: this key may keep 1073741824 bytes of files; delete some, or wait until they expire", "file"
    ),
    "uri_too_long": ErrorCode(414, "The request line is too long."),
    "unsupported_media_type": ErrorCode(
        415, "The body must be JSON: send the header 'Content-Type: application/json'.", "Content-Type"
    ),
    "unsupported_content_encoding": ErrorCode(415, "The body must not be compressed.", "Content-Encoding"),
    "range_not_satisfiable": ErrorCode(
        416, "Range: begins beyond the end of the file, which has 10 bytes", "Range"
    ),
    "expectation_failed": ErrorCode(417, "The expectation cannot be met."),
    "upgrade_required": ErrorCode(426, "This call is a WebSocket: send Upgrade: websocket."),
    "idempotency_mismatch": ErrorCode(422, "Idempotency-Key: was used with another request", "Idempotency-Key"),
    "rate_limit_exceeded": ErrorCode(
        429, "Rate limit exceeded: this key may send 2 requests at once; try again in 1 s."
    ),
    "quota_exceeded": ErrorCode(429, "This key has used all 50 runs of its plan (free); the quota does not reset."),
    "too_many_runs": ErrorCode(
        429, "this key may have 2 concurrent runs and 4 waiting runs; try again when one has ended"
    ),
    "too_many_sessions": ErrorCode(429, "this key may have 2 live sessions; delete one first"),
    "too_many_connections": ErrorCode(
        429,
        "This client uses its share of the connections that read events or long answers; the rest is reserved for "
        "others: try again when one of them has ended.",
    ),
    "headers_too_large": ErrorCode(431, "The headers are too large."),
    # 500 and more
    "internal_error": ErrorCode(500, "The service failed to answer this request."),
    "worker_lost": ErrorCode(500, "The worker stopped during this run.", run_id=True),
    "interrupted": ErrorCode(500, "The service was restarted during this run.", run_id=True),
    "file_damaged": ErrorCode(500, "The bytes of this file are lost or damaged."),
    "io_error": ErrorCode(500, "the operation takes too long", "path"),
    "engine_error": ErrorCode(500, "the sandbox could not be provided; no session was created"),
    "session_ended@500": ErrorCode(500, "the session ended during this run", run_id=True),
    "disk_full": ErrorCode(507, "No space left on device", "path"),
    "not_implemented": ErrorCode(501, "This transfer coding is not supported."),
    "overloaded": ErrorCode(503, "the service is overloaded: the queue is full"),
    "language_not_ready": ErrorCode(503, "language: go is not built yet", "language"),
    "worker_unavailable": ErrorCode(503, "The worker cannot be reached; nothing was started."),
    "records_unavailable": ErrorCode(503, "The database is unavailable; nothing was started."),
    "storage_low": ErrorCode(503, "The service is short of disk space; nothing was started or stored."),
    "storage_unavailable": ErrorCode(503, "The storage is unavailable; nothing was stored."),
}

#: The errors that any route may answer: described once, as `default`.
ANYWHERE = (
    "bad_request", "not_found", "method_not_allowed", "request_timeout", "request_too_large", "uri_too_long",
    "expectation_failed", "headers_too_large", "internal_error", "not_implemented",
)  # fmt: skip

_BY_AUTH: dict[Auth, tuple[str, ...]] = {
    "none": (),
    "key": (
        "missing_token",
        "malformed_token",
        "invalid_token",
        "disabled_key",
        "unknown_plan@403",
        "rate_limit_exceeded",
        "records_unavailable",
    ),
    "admin": (
        "missing_token",
        "malformed_token",
        "invalid_token",
        "admin_off",
        "rate_limit_exceeded",
        "records_unavailable",
    ),
    "link": ("link_expired", "link_invalid", "rate_limit_exceeded"),
    "metrics": ("invalid_token",),
}
#: The errors of any JSON body.
JSON_BODY = (
    "invalid_json", "incomplete_body", "missing_field", "unknown_field", "invalid_type", "invalid_value",
    "request_too_large", "request_timeout", "unsupported_media_type", "unsupported_content_encoding", "too_many",
)  # fmt: skip
#: Of the packages of a run or session.
PACKAGE_ERRORS = ("invalid_package", "package_not_found", "package_not_allowed", "package_build_failed")
#: Of a CSV table.
CSV_BODY = (
    "invalid_csv", "incomplete_body", "invalid_value", "request_too_large", "request_timeout",
    "unsupported_media_type", "too_many", "too_long",
)  # fmt: skip
#: Of a list's query.
LISTED = ("invalid_value", "unknown_field", "invalid_cursor")


def codes_of(auth: tuple[Auth, ...], own: tuple[str, ...]) -> dict[int, list[str]]:
    """Return the error codes of a route by status, each once. Raises KeyError for an unknown code."""
    every = (*own, *(code for kind in auth for code in _BY_AUTH[kind]))
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(every):
        by_status.setdefault(FAULTS[code].status, []).append(code)
    return dict(sorted(by_status.items()))
