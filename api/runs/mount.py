"""Mount the domain of runs: routes, the service that runs programs, and how long ended runs are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.keys.anonymous import is_anonymous_id
from api.keys.plans import ANONYMOUS
from api.runs import admin_routes, input_routes, routes
from api.runs.events import RunFollower
from api.runs.network import NetworkRules
from api.runs.service import RunService
from api.runs.stored_outputs import Outputs
from records.retention import Policy, Retention

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context
    from api.keys.plans import Plans
    from config.settings import Settings
    from records.keys import KeyStore

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint, input_routes.blueprint, admin_routes.blueprint)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of runs and build their service. Ended runs go where this instance keeps the database."""
    settings = deps.settings
    if deps.instance is not None:
        retention = Retention(deps.records.retention, lambda: policy_of(settings, deps.plans, deps.records.keys))
        deps.lifecycle.add("retention", retention.start, retention.stop)
    deps.outputs = Outputs(deps.storage)
    deps.follower = RunFollower(deps.dispatcher, deps.records.runs, deps.outputs.whole)
    deps.runs = RunService(
        deps.dispatcher,
        deps.records.runs,
        deps.languages,
        deps.records.files,
        follower=deps.follower,
        places=deps.places,
        keep_files_ms=settings.keep_files_ms,
        siblings=settings.api_processes > 1,
        instances=deps.instance is not None and deps.instance.queue is not None,
        lease=deps.lease,
        uploads=deps.storage.uploads,
        packages=deps.packages,
        network=NetworkRules(settings.egress == "on", settings.egress_patterns()),
    )
    deps.lifecycle.add("runs", deps.runs.start, deps.runs.stop)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)


def policy_of(settings: Settings, plans: Plans, keys: KeyStore) -> Policy:
    """Return what is kept of ended runs: by age, number, bytes of all and of each plan's callers."""
    bounds = {name: plan.records_bytes for name in plans if (plan := plans.get(name)) is not None}

    def key_bytes(owner: str) -> int | None:
        key = keys.get(owner)
        if key is not None:
            return bounds.get(key.plan)
        return bounds.get(ANONYMOUS) if is_anonymous_id(owner) else None

    return Policy(
        settings.runs_retention_days,
        settings.runs_retention_count,
        records_bytes=settings.records_quota_bytes,
        least_key_bytes=min((bound for bound in bounds.values() if bound is not None), default=None),
        key_bytes=key_bytes,
    )
