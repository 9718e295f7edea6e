"""What the service says of itself: languages, health. No token is needed."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from api.context import context
from api.errors import JSON
from api.languages import worker_unavailable
from dispatch import WorkerUnavailable
from records.errors import RecordsUnavailable

blueprint = Blueprint("service", __name__)

OK, FAIL = "ok", "fail"


@blueprint.get("/v1/languages")
def languages() -> Response:
    """The languages, and which of them are ready."""
    try:
        catalogue = context().languages.catalogue()
    except WorkerUnavailable as e:
        raise worker_unavailable() from e
    return _json({"object": "list", "data": [item.public for item in catalogue.languages]})


@blueprint.get("/v1/health")
def health() -> Response:
    """Always 200: `ok`, or `degraded` with what fails."""
    return _json(_report("degraded"))


@blueprint.get("/healthz")
def alive() -> Response:
    """Answer at all."""
    return _json({"status": OK})


@blueprint.get("/readyz")
def ready() -> Response:
    """Whether runs can be taken: 200 or 503, with the names of the checks and how each went."""
    report = _report(FAIL)
    return _json(report, 200 if report["status"] == OK else 503)


def _report(bad: str) -> dict[str, object]:
    checks = _checks()
    good = all(state == OK for state in checks.values())
    return {"status": OK if good else bad, "checks": checks}


def _checks() -> dict[str, str]:
    return _worker_checks() | {"database": _database_check(), "storage": _storage_check()}


def _worker_checks() -> dict[str, str]:
    try:
        catalogue = context().languages.catalogue()
    except WorkerUnavailable:
        return {"worker": FAIL, "languages": FAIL}
    any_ready = any(item.ready for item in catalogue.languages)
    return {"worker": OK, "languages": OK if any_ready else FAIL}


def _database_check() -> str:
    try:
        context().records.ping()
    except RecordsUnavailable:
        return FAIL
    return OK


def _storage_check() -> str:
    return OK if context().storage_check.good() else FAIL


def _json(data: object, status: int = 200) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(orjson.dumps(data), status, headers=headers, content_type=JSON)
