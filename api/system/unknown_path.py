"""Answer a path that is none of the API's: with the nearest one, and where all of them are described.

The paths named are those of the OpenAPI document, which anybody may read. Nothing of the request is repeated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import NotFound

from api.errors import JSON, ApiError, envelope
from api.openapi.document import public_paths
from config.nearest import distance, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

WHERE = "The API is described at /openapi.json and /docs."
#: Nothing longer, and nothing with more parts, is near a path of the API.
MAX_PATH = 200
MAX_PARTS = 8
#: Edits of all parts together that still count as a typing mistake.
MAX_EDITS = 2
#: Key of the parts of an application's paths.
EXTENSION = "runyard.paths"
_VERSION = "v1"
#: Beginnings that other services have, and this one does not.
_FOREIGN = frozenset({"api", "v2", "v3"})
#: Paths of other services, without their beginnings, and the path of this one for the same purpose.
_SYNONYMS = {
    **dict.fromkeys(
        ("run", "exec", "execute", "executions", "submissions", "jobs", "sandboxes", "code"), "/v1/runs"
    ),
    **dict.fromkeys(("runtimes", "runners", "packages", "templates"), "/v1/languages"),
    **dict.fromkeys(("file", "upload", "uploads", "artifacts"), "/v1/files"),
    **dict.fromkeys(("status", "ping", "health", "about"), "/v1/health"),
    **dict.fromkeys(("swagger", "redoc", "doc", "documentation"), "/docs"),
    **dict.fromkeys(("openapi", "openapi.yaml", "swagger.json", "spec"), "/openapi.json"),
}


def init_app(app: Flask) -> None:
    """Answer unknown paths of the application."""
    app.register_error_handler(NotFound, lambda _e: _not_found())


def path_not_found() -> ApiError:
    """Return the error for a path that is not there."""
    near = _nearest(_paths(), request.path) if len(request.path) <= MAX_PATH else None
    mean = f"; did you mean {near}?" if near is not None else "."
    return ApiError(404, f"No such path{mean} {WHERE}", code="not_found")


def _not_found() -> Response:
    return Response(envelope(path_not_found().error), 404, content_type=JSON)


def _paths() -> tuple[str, ...]:
    known = current_app.extensions
    if EXTENSION not in known:
        known[EXTENSION] = tuple(public_paths(current_app))
    found: tuple[str, ...] = known[EXTENSION]
    return found


@lru_cache(maxsize=256)
def _nearest(paths: tuple[str, ...], asked: str) -> str | None:
    """Return the path with the fewest edits; None if all have more than MAX_EDITS."""
    parts = [part for part in asked.lower().split("/") if part]
    if not parts or len(parts) > MAX_PARTS:
        return None
    while len(parts) > 1 and parts[0] in _FOREIGN:
        parts = parts[1:]
    if (same := _SYNONYMS.get("/".join(part for part in parts if part != _VERSION))) is not None:
        return same
    forms = [parts] if parts[0] == _VERSION else [parts, [_VERSION, *parts]]
    found: list[tuple[int, str]] = []
    for path in paths:
        known = [part for part in path.split("/") if part]
        edits = [count for form in forms if (count := _edits(form, known)) is not None]
        if edits:
            found.append((min(edits), path))
    return min(found)[1] if found else None


def _edits(parts: Sequence[str], known: Sequence[str]) -> int | None:
    """Return the edits from one path to another; a part in braces is any part."""
    if len(parts) != len(known):
        return None
    total = 0
    for part, other in zip(parts, known, strict=True):
        if other.startswith("{"):
            continue
        edits = 0 if part == other else distance(plain(part), plain(other), MAX_EDITS - total)
        if edits is None:
            return None
        total += edits
    return total
