"""Mount the domain of functions: their routes, the service that deploys and resolves them, and its keeper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.functions import routes
from api.functions.builds import Builds
from api.functions.keeper import FunctionKeeper
from api.functions.service import FunctionService
from api.functions.sources import Sources
from protocol.limits import MIB
from records.functions import FunctionBounds

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint,)
#: Of each name that was ever used the number of its last version is kept: so many for each function of a key.
NAMES_PER_FUNCTION = 20


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of functions and build their service. Old versions go where the database is kept."""
    settings, records = deps.settings, deps.records
    builds = Builds(records.functions, records.runs, deps.outputs.whole)
    bounds = FunctionBounds(
        functions=settings.max_functions,
        names=settings.max_functions * NAMES_PER_FUNCTION,
        total_bytes=settings.functions_quota_mb * MIB,
    )
    deps.functions = FunctionService(records.functions, deps.runs, builds, Sources(deps.storage.uploads), bounds)
    if deps.instance is not None:
        keeper = FunctionKeeper(
            records.functions, builds, keep=settings.function_versions, interval_s=settings.cleanup_interval_s
        )
        deps.lifecycle.add("functions", keeper.start, keeper.stop)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
