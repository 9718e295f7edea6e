"""The function object of the API, and what is stored of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from config.clock import rfc3339

if TYPE_CHECKING:
    from api.functions.requests import FunctionRequest
    from records.functions import FunctionVersion


def document_of(request: FunctionRequest) -> bytes:
    """Return what is stored of a version beside its source. The values of its environment are never answered."""
    return orjson.dumps(
        {
            "limits": request.limits,
            "env": request.env,
            "packages": request.packages,
            "description": request.description,
            "input_schema": request.input_schema,
            "handler": request.source.handler,
        }
    )


def source_of(request: FunctionRequest) -> bytes:
    """Return the code and files of a version as they came."""
    return orjson.dumps(request.given)


def function_object(found: FunctionVersion, source: bytes | None) -> dict[str, Any]:
    """Return a version as it is answered; without `source` as it is listed, without its source and log."""
    document = orjson.loads(found.document)
    made_of: dict[str, Any] = {}
    if source is not None:
        given = orjson.loads(source)
        made_of = {
            "log": found.log,
            "code": given["code"],
            "files": given["files"] or [],
            "entrypoint": given["entrypoint"],
        }
    return {
        "name": found.name,
        "object": "function",
        "version": found.version,
        "state": found.state,
        "language": found.language,
        **made_of,
        "packages": document["packages"],
        "limits": document["limits"],
        "env_names": sorted(document["env"]),
        "description": document["description"],
        "input_schema": document["input_schema"],
        "layer": found.layer,
        "created_at": rfc3339(found.function_created_at_ms),
        "updated_at": rfc3339(found.updated_at_ms),
    }
