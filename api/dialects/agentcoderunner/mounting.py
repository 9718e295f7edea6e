"""Add agent-coderunner's routes: each at its path, and beneath the gateway's path, which its MCP client calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from api.openapi.decorator import ATTRIBUTE, Operation
from api.openapi.document import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Blueprint, Response

NAME = "agent-coderunner"
#: In front of every path: the specification has the paths without it.
GATEWAY = "/v1/agent-coderunner"
View = Callable[..., "Response"]
#: A path, its method, and the function.
Route = tuple[str, str, View]


def mount(blueprint: Blueprint, routes: Iterable[Route], *, listed: bool = True) -> None:
    """Add routes to the blueprint; the specification does not have those that are not `listed`."""
    for path, method, view in routes:
        _add(blueprint, path, method, view if listed else _unlisted(view))
        mount_gateway(blueprint, path, method, view)


def mount_gateway(blueprint: Blueprint, path: str, method: str, view: View) -> None:
    """Add a route to the blueprint beneath the gateway's path alone."""
    _add(blueprint, GATEWAY + path, method, _unlisted(view))


def _unlisted(view: View) -> View:
    """Return a view that does the same and is not in the specification."""

    def also(**parts: str) -> Response:
        return view(**parts)

    setattr(also, ATTRIBUTE, Operation("As the operation of another path", tag=HIDDEN, answers={}))
    return also


def _add(blueprint: Blueprint, path: str, method: str, view: View) -> None:
    # Names of blueprints and endpoints have no dots.
    endpoint = f"{method} {path}".replace(".", "_")
    blueprint.add_url_rule(path, endpoint=endpoint, view_func=view, methods=[method])
