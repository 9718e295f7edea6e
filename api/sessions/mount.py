"""Mount the domain of sessions: their routes, and the service that creates and ends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.runs.network import NetworkRules
from api.sessions import (
    archive_routes,
    attach_routes,
    context_routes,
    file_routes,
    life_routes,
    process_routes,
    routes,
    watch_routes,
)
from api.sessions.service import SessionService
from api.sessions.watch import SessionWatch
from api.websockets.poller import WebSocketPoller
from dispatch.sessions import UnixSessions, WorkerSessions

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context

BLUEPRINTS: tuple[Blueprint, ...] = (
    routes.blueprint,
    life_routes.blueprint,
    process_routes.blueprint,
    context_routes.blueprint,
    attach_routes.blueprint,
    file_routes.blueprint,
    archive_routes.blueprint,
    watch_routes.blueprint,
)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of sessions and build their service."""
    deps.session_worker = _session_worker(deps)
    records = deps.records
    watch = SessionWatch(
        deps.session_worker,
        records.sessions,
        records.usage,
        records.keys,
        deps.plans,
        packages_timeout_s=deps.settings.packages_timeout_s,
        instances=deps.instance is not None and deps.instance.queue is not None,
    )
    deps.sessions = SessionService(
        deps.session_worker,
        records.sessions,
        deps.languages,
        records.files,
        usage=records.usage,
        watch=watch,
        lease=deps.lease,
        packages=deps.packages,
        network=NetworkRules(deps.settings.egress == "on", deps.settings.egress_patterns()),
    )
    deps.lifecycle.add("sessions", watch.start, watch.stop)
    deps.websockets = WebSocketPoller()
    deps.lifecycle.add("websockets", lambda: None, deps.websockets.stop)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)


def _session_worker(deps: Context) -> WorkerSessions:
    """Return how sessions are reached: those of the worker of this host, or of all workers at the broker."""
    settings = deps.settings
    if settings.amqp_url is None:
        return UnixSessions(settings.worker_socket, packages_timeout_s=settings.packages_timeout_s)
    from dispatch.amqp import AmqpDispatcher  # with its library, which one host does without
    from dispatch.amqp_sessions import AmqpSessions

    assert isinstance(deps.dispatcher, AmqpDispatcher)
    return AmqpSessions(deps.dispatcher, packages_timeout_s=settings.packages_timeout_s)
