"""The document itself: every route of an application with its `Operation`."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from api.openapi.decorator import JSON, Answer, Operation, Query, declared
from api.openapi.error_codes import ANYWHERE, FAULTS, codes_of
from api.openapi.events import Event
from api.openapi.models import Error
from api.openapi.texts import ABOUT, HEADERS, SECURITY, STATUS_TEXTS, TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flask import Flask
    from werkzeug.routing import Rule

    from api.openapi.decorator import Body, Schema

REF = "#/components/schemas/{model}"
METHODS = ("get", "post", "put", "patch", "delete")
_CONVERTER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


class Undeclared(Exception):
    """A route without an `@operation`. The message names it."""


def document(app: Flask, tag: str | None = None) -> dict[str, Any]:
    """Return the specification of the application's routes, or of those with that tag.

    Raises Undeclared, or KeyError for an unknown code.
    """
    found = [route for route in _routes(app) if tag in (None, route[2].tag)]
    routes = sorted(found, key=lambda route: (route[0], METHODS.index(route[1])))
    schemas = _Schemas([said for _, _, said, _ in routes])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, said, view in routes:
        paths.setdefault(path, {})[method] = _operation(path, method, said, view, schemas)
    return {
        "openapi": "3.1.0",
        "info": ABOUT,
        "servers": [{"url": "/"}],
        "tags": [tag for tag in TAGS if any(said.tag == tag["name"] for _, _, said, _ in routes)],
        "paths": paths,
        "components": {
            "securitySchemes": SECURITY,
            "schemas": schemas.components,
            "headers": HEADERS,
            "responses": {"Error": _error_response("Any other error.", list(ANYWHERE))},
            "examples": {_name(code): {"value": fault.example(code)} for code, fault in sorted(FAULTS.items())},
        },
    }


def public_paths(app: Flask) -> list[str]:
    """Return the paths of the specification, in order."""
    return sorted({path for path, _, _, _ in _routes(app)})


def _routes(app: Flask) -> Iterator[tuple[str, str, Operation, Callable[..., Any]]]:
    """Yield path, method, declaration and function of each route."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        said = declared(view)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if said is None:
                raise Undeclared(f"{method} {rule.rule} ({rule.endpoint}) has no @operation beneath its route")
            if said.tag != HIDDEN:
                yield _path(rule), method.lower(), said, view


#: The tag of what is no part of the API: a page, and what it loads.
HIDDEN = "-"


def _path(rule: Rule) -> str:
    return _CONVERTER.sub(r"{\1}", rule.rule)


class _Untitled(GenerateJsonSchema):
    """Without a title that repeats each field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002  # pydantic's own type
        """Return False: fields get no generated titles."""
        return False


class _Schemas:
    """The models of all bodies as components, and how each is referred to."""

    def __init__(self, operations: list[Operation]) -> None:
        taken = [body for said in operations if said.body for body in said.body.content.values()]
        given = [
            body for said in operations for answer in said.answers.values() for body in answer.content.values()
        ]
        modes: dict[Any, None] = {(model, "validation"): None for model in taken if isinstance(model, type)}
        modes |= {(model, "serialization"): None for model in (*given, Error, Event) if isinstance(model, type)}
        self._by_model, whole = models_json_schema(list(modes), ref_template=REF, schema_generator=_Untitled)
        self.components: Schema = dict(sorted(whole["$defs"].items()))

    def of(self, body: Body, mode: str) -> Schema:
        """Return a reference to a model, or the schema as it is."""
        if isinstance(body, type) and issubclass(body, BaseModel):
            found: Schema = self._by_model[body, mode]  # type: ignore[index]
            return found
        assert isinstance(body, dict)
        return body


def _operation(
    path: str, method: str, said: Operation, view: Callable[..., Any], schemas: _Schemas
) -> dict[str, Any]:
    names = re.findall(r"{([^}]+)}", path)
    if set(names) != set(said.path):
        raise Undeclared(f"{method.upper()} {path}: @operation describes the path's {sorted(said.path)}")
    text = said.description or inspect.getdoc(view) or ""
    made: dict[str, Any] = {
        "operationId": view.__name__,
        "summary": said.summary,
        "description": text.split("\n\n")[0].replace("\n", " ") if said.description is None else text,
        "tags": [said.tag],
        "parameters": [
            *(
                {"name": n, "in": "path", "required": True, "description": said.path[n], "schema": _ID}
                for n in names
            ),
            *map(_parameter, said.query),
        ],
        "security": [{} if kind == "none" else {kind: []} for kind in said.auth],
    }
    if said.body is not None:
        examples = {name: {"value": value} for name, value in said.body.examples.items()}
        made["requestBody"] = {
            "required": said.body.required,
            "content": {
                media: {"schema": schemas.of(body, "validation")} | ({"examples": examples} if examples else {})
                for media, body in said.body.content.items()
            },
        }
    made["responses"] = _responses(said, schemas)
    return made


_ID = {"type": "string", "minLength": 1, "maxLength": 100}


def _parameter(query: Query) -> dict[str, Any]:
    return {
        "name": query.name,
        "in": query.where,
        "required": query.required,
        "description": query.description,
        "schema": query.schema,
    }


def _responses(said: Operation, schemas: _Schemas) -> dict[str, Any]:
    keyed = "key" in said.auth or "admin" in said.auth
    made: dict[str, Any] = {}
    for status, answer in sorted(said.answers.items()):
        made[str(status)] = _answer(answer, schemas, keyed=keyed)
    if said.has_own_errors:
        return made
    for status, codes in codes_of(said.auth, (*said.errors, "internal_error")).items():
        also = made.get(str(status))
        made[str(status)] = _error_response(STATUS_TEXTS[status], codes, also)
    made["default"] = {"$ref": "#/components/responses/Error"}
    return made


def _answer(answer: Answer, schemas: _Schemas, *, keyed: bool) -> dict[str, Any]:
    headers: dict[str, Any] = {"x-request-id": _header("RequestId")}
    if keyed:
        headers |= {f"x-ratelimit-{name}-requests": _header(f"RateLimit{name.title()}") for name in _RATE}
    headers |= {name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()}
    made: dict[str, Any] = {"description": answer.description, "headers": headers}
    if answer.content:
        made["content"] = {
            media: {"schema": schemas.of(body, "serialization")} | _examples(answer.examples, media)
            for media, body in answer.content.items()
        }
    return made


_RATE = ("limit", "remaining", "reset")


def _examples(examples: Mapping[str, Any], media: str) -> dict[str, Any]:
    """Select the examples of one media type: an example that is a text belongs to the types other than JSON."""
    fitting = {name: value for name, value in examples.items() if isinstance(value, str) == (media != JSON)}
    of_media = {name: value for name, value in fitting.items() if media == JSON or name in media}
    return {"examples": {name: {"value": value} for name, value in of_media.items()}} if of_media else {}


def _error_response(description: str, codes: list[str], also: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer of one error status, with an example for each code; `also` is a further answer of it."""
    statuses = {FAULTS[code].status for code in codes}
    headers = {"x-request-id": _header("RequestId")}
    if statuses == {401}:
        headers["WWW-Authenticate"] = _header("Challenge")
    if statuses in ({429}, {503}):
        headers["Retry-After"] = _header("RetryAfter")
    if statuses == {416}:
        headers["Content-Range"] = _header("WholeLength")
    examples = {_name(code): {"$ref": f"#/components/examples/{_name(code)}"} for code in codes}
    schema: Schema = {"$ref": REF.format(model="Error")}
    if also is not None and JSON in also.get("content", {}):
        schema = {"anyOf": [also["content"][JSON]["schema"], schema]}
        description = f"{also['description']} Or: {description}"
        examples |= also["content"][JSON].get("examples", {})
    return {
        "description": description,
        "headers": headers,
        "content": {JSON: {"schema": schema, "examples": examples}},
    }


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _name(code: str) -> str:
    """Return the component name for a code."""
    return code.replace("@", "_")
