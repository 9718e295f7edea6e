"""Mount the domain of packages: the rules of what may be asked for, and the route of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.packages import routes
from api.packages.policy import PackageRules

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint,)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes, and load the patterns of permitted packages. Raises SettingsError."""
    deps.packages = PackageRules.of(deps.settings)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
