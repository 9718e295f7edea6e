"""Mount the domain of the service itself: health, languages, documents, and the lease on the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.system import docs_routes, page_routes, routes, unknown_path
from api.system.disk_space import DiskReserve
from api.system.instance_lease import Lease, acquire
from api.system.languages import Languages
from api.system.storage_health import StorageHealth

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context
    from records.leases import Instance

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint, docs_routes.blueprint, page_routes.blueprint)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes about the service and build what they report. The lease is held from start to stop."""
    unknown_path.init_app(app)
    deps.languages = Languages(deps.dispatcher)
    deps.storage_check = StorageHealth(deps.storage)
    deps.room = DiskReserve.of(deps.settings)
    deps.lease = None if deps.instance is None else _lease(deps, deps.instance)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)


def _lease(deps: Context, instance: Instance) -> Lease:
    leases = deps.records.leases
    lease = Lease(leases, instance)

    def start() -> None:
        acquire(leases, instance)  # the master has taken it before
        lease.start()

    deps.lifecycle.add("lease", start, lease.stop)
    return lease
