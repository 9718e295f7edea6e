"""Put errors, results and functions into tinirun's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Response

from api.dialects.answers import exact_json
from api.dialects.tinirun.languages import code_of, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.errors import ApiError

TEXT = "text/plain; charset=utf-8"
UNAUTHORIZED, NOT_FOUND = "Unauthorized", "Not Found"
NOT_BUILT = "The function could not be built."
NOT_READY, EXISTS = "Function not ready", "Function already exists"
#: Codes of packages: their errors are text, as those of all dependencies.
_OF_PACKAGES = ("invalid_package", "package_not_allowed", "package_not_found", "package_build_failed")


def render(e: ApiError) -> Response:
    """Return an error: text where tinirun has text, JSON with a message for all else."""
    code = e.error.code
    if e.status == 401:
        return text(UNAUTHORIZED, 401, e)
    if code == "function_not_found":
        return text(NOT_FOUND, 404, e)
    if code == "function_failed":
        return text(NOT_READY, 400, e)
    if code in _OF_PACKAGES or e.error.message == EXISTS:
        return text(e.error.message, e.status, e)
    return exact_json({"message": e.error.message}, e.status, e.headers)


def render_call(e: ApiError) -> Response:
    """Return an error of a call: one of the service is text."""
    if e.status == 500:
        return text(f"Code execution failed: {e.error.message}", 500, e)
    return render(e)


def text(body: str, status: int, e: ApiError) -> Response:
    """Return an error as text."""
    return Response(body, status, headers=e.headers, content_type=TEXT)


def info_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a function, from the object of its newest version."""
    info: dict[str, Any] = {"lang": name_of(found["language"])}
    if found["description"] is not None:
        info["description"] = found["description"]
    return info | {
        "status": _status_of(found),
        "created_at": found["created_at"],
        "updated_at": found["updated_at"],
        "version": str(found["version"]),
    }


def detail_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a function with its code and its dependencies, one a line."""
    return info_of(found) | {
        "code": code_of(found["language"], found),
        "dependencies": "\n".join(found["packages"]),
    }


def _status_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a version; its log is known only where its source is."""
    if found["state"] == "building":
        return {"type": "building"}
    if found["state"] == "ready":
        name, version = found["name"], found["version"]
        return {"type": "ready", "tag": f"{name}:{version}", "id": f"{name}@{version}"}
    error = {"error": "build_failed", "message": NOT_BUILT, "logs": found.get("log", "")}
    return {"type": "error", "error": error}
