"""Mount the dialects: the routes of each that DIALECTS names, and the paths that several of them claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flask import request
from werkzeug.exceptions import HTTPException

from api.dialects.caller import serves_without_key
from api.dialects.piston import routes as piston
from api.dialects.shared_paths import SharedPath, blueprint_of
from api.errors import answer_error, render_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint, Flask, Response

    from api.context import Context
    from api.errors import ApiError


class Dialect(Protocol):
    """A dialect: a module `routes` with its name, its routes, and its paths that are served without a key."""

    NAME: str
    blueprint: Blueprint
    #: Prefixes of paths: a request below one of them may bring a program without a key.
    KEYLESS: tuple[str, ...]
    #: Prefixes of paths that are its own: what none of its routes takes is refused in its shape.
    OWN: tuple[str, ...]

    def render(self, error: ApiError, /) -> Response:
        """Return an error in the dialect's shape."""


DIALECTS: tuple[Dialect, ...] = (piston,)
#: Paths with more than one claim, or that a later dialect will claim too.
SHARED: tuple[SharedPath, ...] = (SharedPath("/execute", "POST", (piston.EXECUTE,), piston.SAID_EXECUTE),)

_shared = blueprint_of(SHARED)
BLUEPRINTS: tuple[Blueprint, ...] = (*(dialect.blueprint for dialect in DIALECTS), _shared)


def init_app(app: Flask, deps: Context) -> None:
    """Register the dialects that are switched on."""
    deps.dialects = deps.settings.dialect_names()
    enabled = [dialect for dialect in DIALECTS if dialect.NAME in deps.dialects]
    for dialect in enabled:
        app.register_blueprint(dialect.blueprint)
    if enabled:
        app.register_blueprint(_shared)
    keyless = tuple(prefix for dialect in enabled for prefix in dialect.KEYLESS)
    app.register_error_handler(HTTPException, _refuse(enabled))
    deps.is_keyless = lambda path: path.startswith(keyless) and serves_without_key(deps)


def _refuse(enabled: list[Dialect]) -> Callable[[HTTPException], Response]:
    """Return what answers a request that no route takes: in the shape of the dialect whose path it is."""

    def refuse(e: HTTPException) -> Response:
        for dialect in enabled:
            if f"{request.path}/".startswith(dialect.OWN):
                return answer_error(e, dialect.render)
        return answer_error(e, render_envelope)

    return refuse
