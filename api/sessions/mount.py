"""Mount the domain of sessions: their routes, and the service that creates and ends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.sessions import file_routes, process_routes, routes
from api.sessions.service import SessionService
from dispatch.sessions import UnixSessions

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint, process_routes.blueprint, file_routes.blueprint)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of sessions and build their service."""
    deps.session_worker = UnixSessions(deps.settings.worker_socket)
    deps.sessions = SessionService(deps.session_worker, deps.records.sessions, deps.languages, lease=deps.lease)
    deps.lifecycle.add("sessions", deps.sessions.start, deps.sessions.stop)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
