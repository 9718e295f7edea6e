"""Mount the dialects: the routes of each that DIALECTS names, and the paths that several of them claim."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flask import Response, request
from werkzeug.exceptions import HTTPException, NotFound

from api.dialects.agentcoderunner import routes as agentcoderunner
from api.dialects.caller import serves_without_key
from api.dialects.piston import routes as piston
from api.dialects.probes import MODELS
from api.dialects.reserved import E2B
from api.dialects.runakode import routes as runakode
from api.dialects.runtools import routes as runtools
from api.dialects.runtools import sandboxes
from api.dialects.shared_paths import SharedPath, blueprint_of
from api.dialects.tinirun import function_routes as tinirun_functions
from api.dialects.tinirun import routes as tinirun
from api.dialects.tinirun import specification as tinirun_specification
from api.dialects.tinirun.answers import render as render_as_tinirun
from api.errors import ApiError, answer_error, render_envelope
from api.system.unknown_path import path_not_found

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context


class Dialect(Protocol):
    """A dialect: a module `routes` with its name, its routes, and its paths that are served without a key."""

    NAME: str
    blueprint: Blueprint
    #: Prefixes of paths: a request below one of them may bring a program without a key.
    KEYLESS: tuple[str, ...]


DIALECTS: tuple[Dialect, ...] = (piston, runakode, runtools, agentcoderunner, tinirun)
#: By a dialect's name the prefixes of paths that are its own, and its shape: a request that no route there takes is
#: refused in that shape.
OWN: dict[str, tuple[tuple[str, ...], Callable[[ApiError], Response]]] = {
    piston.NAME: (piston.OWN, piston.refuse),
    runtools.NAME: (runtools.OWN, runtools.render),
    tinirun.NAME: (tinirun.OWN, render_as_tinirun),
    agentcoderunner.NAME: (agentcoderunner.OWN, agentcoderunner.render),
}
#: Paths with more than one claim, or that a later dialect will claim too.
SHARED: tuple[SharedPath, ...] = (
    SharedPath("/execute", "POST", (E2B, piston.EXECUTE, agentcoderunner.EXECUTE), piston.SAID_EXECUTE),
    runakode.HEALTH,
    *sandboxes.SHARED,
    *agentcoderunner.SHARED,
    *MODELS,
)

#: Routes of a dialect beside those of its module `routes`.
FURTHER: dict[str, tuple[Blueprint, ...]] = {
    tinirun.NAME: (tinirun_functions.blueprint, tinirun_specification.blueprint),
}

_shared = blueprint_of(SHARED)
BLUEPRINTS: tuple[Blueprint, ...] = (
    *(dialect.blueprint for dialect in DIALECTS),
    *(further for name in FURTHER for further in FURTHER[name]),
    _shared,
)


def init_app(app: Flask, deps: Context) -> None:
    """Register the dialects that are switched on."""
    deps.dialects = deps.settings.dialect_names()
    enabled = [dialect for dialect in DIALECTS if dialect.NAME in deps.dialects]
    for dialect in enabled:
        app.register_blueprint(dialect.blueprint)
        for further in FURTHER.get(dialect.NAME, ()):
            app.register_blueprint(further)
    if enabled:
        app.register_blueprint(_shared)
    keyless = tuple(prefix for dialect in enabled for prefix in dialect.KEYLESS)
    refuse = _refuse(deps.dialects)
    app.register_error_handler(HTTPException, refuse)
    app.register_error_handler(NotFound, refuse)
    if agentcoderunner.NAME in deps.dialects:
        deps.query_key = agentcoderunner.query_key
    deps.is_keyless = lambda path: path.startswith(keyless) and serves_without_key(deps)


def _refuse(enabled: frozenset[str]) -> Callable[[HTTPException], Response]:
    """Return what answers a request that no route takes: in the shape of the dialect whose path it is."""
    own = [OWN[name] for name in sorted(OWN.keys() & enabled)]

    def refuse(e: HTTPException) -> Response:
        for prefixes, render in own:
            if f"{request.path}/".startswith(prefixes):
                return answer_error(e, render)
        return render_envelope(path_not_found()) if isinstance(e, NotFound) else answer_error(e, render_envelope)

    return refuse
