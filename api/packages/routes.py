"""`GET /v1/layers/{id}`: the packages of a layer that a run or session of the caller's has used."""

from __future__ import annotations

from flask import Blueprint, Response

from api.context import context, require_caller
from api.errors import ApiError
from api.http.ids import bounded
from api.http.json_response import json_response
from api.openapi.decorator import Json, operation
from api.packages.answers import PackageLayer
from api.system.languages import worker_unavailable
from config.clock import rfc3339
from dispatch import WorkerUnavailable

blueprint = Blueprint("packages", __name__)


@blueprint.get("/v1/layers/<layer_id>")
@operation(
    "Get a layer of packages",
    tag="packages",
    description="The `layer` of a run or session that asked for `packages`: what was installed, with versions.",
    path={"layer_id": "The layer's id."},
    answers={200: Json("The layer.", PackageLayer)},
    errors=("layer_not_found", "worker_unavailable"),
)
def get_layer(layer_id: str) -> Response:
    """Return a layer that the caller has used. 404 for every other."""
    caller = require_caller(reading=True)
    try:
        facts = context().dispatcher.layer_facts(caller.id, bounded(layer_id))
    except WorkerUnavailable as e:
        raise worker_unavailable() from e
    if facts is None:
        raise ApiError(404, "There is no such layer.", code="layer_not_found", param="id")
    return json_response(
        {
            "id": facts["id"],
            "object": "layer",
            "language": facts["language"],
            "packages": facts["packages"],
            "size": facts["size"],
            "created_at": rfc3339(round(facts["created_at"] * 1000)),
        }
    )
