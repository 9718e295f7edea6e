"""Mount the domain of API keys: authentication, plans, usage, and the administrator's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.keys import admin_routes, admin_usage_routes, bulk_routes, plan_routes, routes, usage_routes
from api.keys.authentication import AdminAuthenticator, Authenticator
from api.keys.plan_reload import PlanReloader, stamp
from api.keys.plans import load_plans
from api.keys.session_tokens import SessionTokens
from api.keys.static_keys import distinct_callers, static_callers
from storage.signing import signing_keys

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context
    from records.sessions import SessionStore

BLUEPRINTS: tuple[Blueprint, ...] = (
    routes.blueprint,
    usage_routes.blueprint,
    admin_routes.blueprint,
    admin_usage_routes.blueprint,
    bulk_routes.blueprint,
    plan_routes.blueprint,
)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of keys and build what authenticates. Raises SettingsError."""
    settings = deps.settings
    seen = stamp(settings.plans_file)  # before it is read: a change after this is noticed
    deps.plans = load_plans(settings)
    deps.plan_reloader = PlanReloader(deps.plans, settings, deps.metrics.plan_reloads, seen)
    deps.lifecycle.add("plans", deps.plan_reloader.start, deps.plan_reloader.stop)
    static = static_callers(settings.keys(), deps.records.tenants)
    deps.static_keys = distinct_callers(static)
    deps.session_tokens = SessionTokens(signing_keys(settings))
    deps.authenticator = Authenticator(
        static,
        deps.records.keys,
        deps.plans,
        session_tokens=deps.session_tokens,
        session_owner=lambda session_id: _owner_of(deps.records.sessions, session_id),
    )
    deps.administrator = AdminAuthenticator(settings.admin_token)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)


def _owner_of(sessions: SessionStore, session_id: str) -> str | None:
    """Return whose a session is; None for one that has ended or is unknown."""
    found = sessions.find(session_id)
    return None if found is None or found.ended else found.owner
