"""Serve the paths that several dialects claim: one table, one dispatcher.

A request belongs to the first claim that fits it: by a header that only that service's clients send, else by the
keys of its JSON body, else to the claim that asks for neither. A later dialect adds a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from api.context import context
from api.errors import ApiError, answer_error
from api.http.body import parse_object, read_body
from api.openapi.decorator import ATTRIBUTE, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_LETTERS = re.compile(r"[^a-z0-9]+")
#: A route's function; it gets the bytes of the body, which have been read, and the variable parts of the path.
SharedView = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Claim:
    """One dialect's claim to requests of a path; without `header` and `keys` it takes all that reach it."""

    #: None for what is served where any dialect is.
    dialect: str | None
    view: SharedView
    #: Answers an error of the view in the dialect's shape.
    render: Callable[[ApiError], Response]
    #: A header that is there.
    header: str | None = None
    #: Keys of which the body must have one, or with `needs_all` each.
    keys: frozenset[str] = frozenset()
    needs_all: bool = False


@dataclass(frozen=True, slots=True)
class SharedPath:
    """A path and method with those that claim it, the most particular first."""

    path: str
    method: str
    claims: tuple[Claim, ...]
    said: Operation

    def choose(self, enabled: frozenset[str], headers: Callable[[str], bool], body: bytes) -> Claim | None:
        """Return the claim that a request belongs to; None if it is nobody's."""
        claims = [claim for claim in self.claims if claim.dialect is None or claim.dialect in enabled]
        for claim in claims:
            if claim.header is not None and headers(claim.header):
                return claim
        names: frozenset[str] | None = None
        for claim in claims:
            if claim.header is not None:
                continue
            if not claim.keys:
                return claim
            names = _names(body) if names is None else names
            if claim.keys <= names if claim.needs_all else names & claim.keys:
                return claim
        return None


def blueprint_of(paths: Iterable[SharedPath]) -> Blueprint:
    """Return the routes of shared paths."""
    made = Blueprint("shared_paths", __name__)
    for shared in paths:
        view = _view(shared)
        setattr(view, ATTRIBUTE, shared.said)
        made.add_url_rule(shared.path, endpoint=view.__name__, view_func=view, methods=[shared.method])
    return made


def _view(shared: SharedPath) -> Callable[[], Response]:
    def dispatch(**parts: str) -> Response:
        failure, body = None, b""
        try:
            body = read_body(request)
        except ApiError as e:
            failure = e
        claim = shared.choose(context().dialects, request.headers.__contains__, body)
        if claim is None:
            raise failure or NotFound
        if failure is not None:
            return claim.render(failure)
        try:
            return claim.view(body, **parts)
        except Exception as e:  # noqa: BLE001  # distinguished and logged there
            return answer_error(e, claim.render)

    dispatch.__name__ = f"shared_{shared.method.lower()}_{_NO_LETTERS.sub('_', shared.path.strip('/'))}"
    return dispatch


def _names(body: bytes) -> frozenset[str]:
    """Return the keys of a body that is a JSON object; none for any other, which is refused by its reader."""
    try:
        return frozenset(parse_object(body))
    except ApiError:
        return frozenset()
