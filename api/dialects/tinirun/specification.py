"""`GET /api/openapi.json` and `GET /api/docs`: tinirun's part of the specification, and the page that shows it."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from api.dialects.tinirun import schemas
from api.dialects.tinirun.answers import render
from api.dialects.tinirun.routes import NAME
from api.errors import answer_error
from api.openapi.decorator import Answer, Json, operation
from api.openapi.document import HIDDEN
from api.system.docs_routes import docs_asset, docs_page, docs_specification

blueprint = Blueprint("tinirun_specification", __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))


@blueprint.get("/api/openapi.json")
@operation(
    "tinirun's part of the OpenAPI document",
    tag=NAME,
    auth=("none",),
    answers={
        200: Json("OpenAPI 3.1.", {"type": "object", "required": ["openapi", "info", "paths"]}),
        304: Answer("Not modified."),
        **schemas.errors(429, 503),
    },
    has_own_errors=True,
)
def tinirun_specification() -> Response:
    """Return the OpenAPI document of tinirun's routes."""
    return docs_specification(current_app, NAME)


@blueprint.get("/api/docs")
@operation("A page that shows it", tag=HIDDEN, auth=("none",), answers={200: Answer("HTML.", {"text/html": {}})})
def tinirun_docs() -> Response:
    """Return the page of Swagger UI for it."""
    return docs_page()


@blueprint.get("/api/docs/<name>")
@operation("A file of the page", tag=HIDDEN, auth=("none",), path={"name": ""}, answers={200: Answer("A file.")})
def tinirun_docs_asset(name: str) -> Response:
    """Return a file of the page; 404 for any other name."""
    return docs_asset(name)
