"""Put ended runs, lists and errors into RunTools' shapes."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, g, request

from api.dialects.answers import exact_json
from api.dialects.flat_result import FlatResult
from api.dialects.status_codes import CODES
from api.http.access_log import ENVIRON_KEY

if TYPE_CHECKING:
    from api.dialects.runtools.requests import RunToolsRequest
    from api.errors import ApiError
    from api.ratelimit.bucket import Decision
    from api.system.languages import OfferedLanguage, OfferedLanguages

_CODES = CODES | {400: "invalid_request"}


def result_of(asked: RunToolsRequest, language: OfferedLanguage, document: dict[str, Any]) -> bytes:
    """Return the body for the document of an ended run, in the generation of its request."""
    if asked.is_first_generation:
        return _first_generation(document)
    return _later_generation(language, document)


def _first_generation(document: dict[str, Any]) -> bytes:
    flat = FlatResult.of(document)
    data = {
        "stdout": flat.stdout,
        "stderr": flat.stderr,
        "exitCode": flat.exit_code,
        "executionTime": flat.wall_ms,
        "timedOut": flat.timed_out,
    }
    return orjson.dumps({"data": data, "meta": {"requestId": request_id()}})


def _later_generation(language: OfferedLanguage, document: dict[str, Any]) -> bytes:
    body: dict[str, Any] = {"language": language.id, "version": language.public["version"], "session_id": None}
    compiler = document["compile"]
    if compiler is not None:
        body["compile"] = {
            "stdout": compiler["stdout"],
            "stderr": compiler["stderr"],
            "code": compiler["exit_code"],
            "time_ms": compiler["wall_ms"],
            # Only the whole sandbox is measured.
            "memory_kb": None,
        }
    usage = document["usage"]
    body["run"] = {
        "stdout": document["stdout"],
        "stderr": document["stderr"],
        "code": document["exit_code"],
        "signal": document["signal"],
        "time_ms": usage["wall_ms"],
        "memory_kb": usage["max_rss_mb"] * 1024,
    }
    return orjson.dumps(body)


def runtimes_of(offered: OfferedLanguages) -> bytes:
    """Return the body of the list of runtimes: the languages that are ready."""
    rows = [
        {
            "runtime": language.id,
            "language": language.id,
            "version": language.public["version"],
            "aliases": language.public["aliases"],
        }
        for language in offered.languages
        if language.ready
    ]
    return orjson.dumps({"data": rows, "meta": {"hasMore": False, "nextCursor": None}})


def render(e: ApiError) -> Response:
    """Return an error in RunTools' shape."""
    code = _CODES.get(e.status, "invalid_request" if e.status < 500 else "internal_error")
    error = {"code": code, "message": e.error.message, "requestId": request_id()}
    return exact_json({"error": error}, e.status, e.headers)


def add_rate_headers(response: Response) -> Response:
    """Add the rate limit as RunTools' clients read it, beside the service's own headers."""
    decision: Decision | None = g.get("rate_decision")
    if decision is not None:
        response.headers["X-RateLimit-Limit"] = str(decision.limit)
        response.headers["X-RateLimit-Remaining"] = str(decision.remaining)
        response.headers["X-RateLimit-Reset"] = str(math.ceil(time.time() + decision.reset_s))
    return response


def request_id() -> str:
    """Return the id of this request, as the header `x-request-id` has it."""
    return str(request.environ[ENVIRON_KEY].request_id)
