"""Answer the requests by which clients find out which service this is, and that belong to no dialect alone."""

from __future__ import annotations

from flask import Response

from api.dialects.answers import exact_json
from api.dialects.shared_paths import Claim, SharedPath
from api.errors import render_envelope
from api.openapi.decorator import Json, Operation

_NO_MODELS = {"object": "list", "data": []}


def _models(_body: bytes) -> Response:
    return exact_json(_NO_MODELS)


def _path(path: str) -> SharedPath:
    said = Operation(
        "List models: there are none",
        tag="service",
        auth=("none",),
        description="Open WebUI asks for models wherever it connects to. No token is looked at.",
        answers={
            200: Json(
                "Always.",
                {
                    "type": "object",
                    "properties": {"object": {"const": "list"}, "data": {"type": "array", "maxItems": 0}},
                },
                {"always": _NO_MODELS},
            )
        },
    )
    return SharedPath(path, "GET", (Claim(None, _models, render_envelope),), said)


MODELS = (_path("/models"), _path("/v1/models"))
