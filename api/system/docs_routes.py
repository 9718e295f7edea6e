"""The specification as JSON, and Swagger UI over it: everything from this service, with no other host named."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response, current_app, request

from api.context import context, sharer
from api.errors import JSON
from api.openapi.decorator import Answer, Json, operation
from api.openapi.document import HIDDEN, document
from api.system.unknown_path import path_not_found

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from flask import Flask

blueprint = Blueprint("docs", __name__)

#: Swagger UI sets styles on elements by script only, which a policy without 'unsafe-inline' allows.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: The files that the page loads: the type of each, and whether it belongs to Swagger UI or to this service.
_ASSETS = {
    "swagger-ui-bundle.js": ("text/javascript; charset=utf-8", "swagger"),
    "swagger-ui.css": ("text/css; charset=utf-8", "swagger"),
    "favicon-32x32.png": ("image/png", "swagger"),
    "start.js": ("text/javascript; charset=utf-8", "own"),
}
#: Key of an application's specification, which is made at the first request.
EXTENSION = "runyard.openapi"
_HTML = "text/html; charset=utf-8"


@blueprint.get("/openapi.json")
@operation(
    "The OpenAPI document",
    tag="service",
    auth=("none",),
    answers={
        200: Json("OpenAPI 3.1.", {"type": "object", "required": ["openapi", "info", "paths"]}),
        304: Answer("Not modified."),
    },
    errors=("overloaded", "too_many_connections"),
)
def specification() -> Response:
    """Return the OpenAPI document of this service."""
    return docs_specification(current_app)


@blueprint.get("/docs")
@operation("A page that shows it", tag=HIDDEN, auth=("none",), answers={200: Answer("HTML.", {"text/html": {}})})
def page() -> Response:
    """Return the page of Swagger UI for the specification."""
    return docs_page()


@blueprint.get("/docs/<name>")
@operation("A file of the page", tag=HIDDEN, auth=("none",), path={"name": ""}, answers={200: Answer("A file.")})
def asset(name: str) -> Response:
    """Return a file of the page; 404 for any other name."""
    return docs_asset(name)


def docs_specification(app: Flask, tag: str | None = None) -> Response:
    """Return the OpenAPI document of an application, or of its routes with that tag."""
    name = EXTENSION if tag is None else f"{EXTENSION}.{tag}"
    known = app.extensions
    if name not in known:
        known[name] = orjson.dumps(document(app, tag), option=orjson.OPT_APPEND_NEWLINE)
    return _cached(known[name], JSON)


def docs_page() -> Response:
    """Return the page for the specification that stands beside it."""
    return _cached(_own("docs.html"), _HTML)


def docs_asset(name: str) -> Response:
    """Return a file of the page; 404 for any other name."""
    if name not in _ASSETS:
        raise path_not_found()
    kind, whose = _ASSETS[name]
    return _cached(_own(name) if whose == "own" else _swagger(name), kind)


@cache
def _own(name: str) -> bytes:
    return _read(files("api.openapi") / "page" / name)


@cache
def _swagger(name: str) -> bytes:
    return _read(files("flask_swagger_ui") / "dist" / name)


def _read(path: Traversable) -> bytes:
    return path.read_bytes()


def _cached(body: bytes, kind: str) -> Response:
    """Return an answer that need not be sent twice. A long one takes a place: it may be read slowly."""
    release = context().places.documents.acquire_for_response(len(body), sharer())
    response = Response(body, content_type=kind, headers=PAGE_HEADERS | {"Cache-Control": "no-cache"})
    response.set_etag(hashlib.sha256(body).hexdigest()[:32])
    response.make_conditional(request)
    response.call_on_close(release)
    return response
