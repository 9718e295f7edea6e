"""Mount the domain of files: uploads, links to artifacts, and the removal of blobs that nothing names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.files import routes
from api.files.blob_gc import BlobCollector
from storage.links import Links
from storage.signing import signing_keys

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from api.context import Context

BLUEPRINTS: tuple[Blueprint, ...] = (routes.blueprint,)


def init_app(app: Flask, deps: Context) -> None:
    """Register the routes of files. Blobs are collected where this instance keeps the database."""
    settings = deps.settings
    deps.links = Links(signing_keys(settings), base_url=settings.base_url, ttl_s=settings.link_ttl_s)
    if deps.instance is not None:
        keeper = BlobCollector(deps.records.files, deps.storage, deps.dispatcher)
        deps.lifecycle.add("file-keeper", keeper.start, keeper.stop)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
