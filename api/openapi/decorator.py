"""Describe a route, its parameters and its answers: a decorator beneath that of the blueprint.

    @blueprint.get("/v1/things/<thing_id>")
    @operation("One thing", tag="things", path={"thing_id": "The thing's id."}, answers={200: Json("…", Thing)},
               errors=("thing_not_found",))
    def get_thing(thing_id: str) -> Response:

It changes nothing of how the route works: the document is made of it, and tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

JSON = "application/json"
ATTRIBUTE = "openapi_operation"

Schema = dict[str, Any]
#: The model of a body, or a schema where there is none.
Body = type[BaseModel] | Schema
#: Required credentials: none, a key (as bearer token, as X-API-Key or X-Runner-Api-Key, or in the query), the
#: admin's token, a signed link, the token of the metrics.
Auth = Literal["none", "key", "api_key", "runner_key", "query_key", "admin", "link", "metrics"]
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that is no error: what it means, and its body by media type."""

    description: str
    content: Mapping[str, Body] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    #: Descriptions of its own headers, by name.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query, or a header that a client may send."""

    name: str
    description: str
    schema: Schema
    where: Literal["query", "header"] = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A request body: its model or schema by media type, with examples by name."""

    content: Mapping[str, Body]
    examples: Mapping[str, Any] = field(default_factory=dict)
    #: False where the body may be missing.
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of one route in the document; `errors` are codes of `error_codes`."""

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    errors: tuple[str, ...] = ()
    auth: tuple[Auth, ...] = ("key",)
    path: Mapping[str, str] = field(default_factory=dict)
    query: tuple[Query, ...] = ()
    body: RequestBody | None = None
    description: str | None = None
    #: True where `answers` are complete, errors included: a dialect's, which have the shape of that service.
    has_own_errors: bool = False


def operation(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Answer],
    errors: tuple[str, ...] = (),
    auth: tuple[Auth, ...] = ("key",),
    path: Mapping[str, str] | None = None,
    query: tuple[Query, ...] = (),
    body: RequestBody | None = None,
    description: str | None = None,
    has_own_errors: bool = False,
) -> Callable[[View], View]:
    """Describe a route. Error codes that every route of that `auth` can answer need not be named."""
    said = Operation(summary, tag, answers, errors, auth, path or {}, query, body, description, has_own_errors)

    def mark(view: View) -> View:
        setattr(view, ATTRIBUTE, said)
        return view

    return mark


def declared(view: Callable[..., Any]) -> Operation | None:
    """Return the description of a route; None if it has none."""
    found = getattr(view, ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None


def Json(  # noqa: N802  # reads as the type of an answer
    description: str,
    model: Body,
    examples: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return an answer that is JSON."""
    return Answer(description, {JSON: model}, examples or {}, headers or {})
