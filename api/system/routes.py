"""Report on the service itself: languages, health, metrics. No token is needed."""

from __future__ import annotations

import hashlib
import hmac

from flask import Blueprint, Response, request

from api.context import context, limit_anonymous, sharer
from api.errors import ApiError
from api.http import metrics
from api.http.json_response import json_response
from api.openapi import examples
from api.openapi.decorator import Answer, Json, operation
from api.openapi.models import Alive, Health, LanguageList
from api.system.languages import worker_unavailable
from config.version import VERSION
from dispatch import WorkerUnavailable
from records.errors import RecordsUnavailable

blueprint = Blueprint("service", __name__)

OK, FAIL = "ok", "fail"


@blueprint.get("/v1/languages")
@operation(
    "List languages",
    tag="service",
    auth=("none",),
    answers={200: Json("All languages, with their readiness.", LanguageList, {"one": examples.LANGUAGES})},
    errors=("worker_unavailable", "rate_limit_exceeded"),
)
def languages() -> Response:
    """List the languages and whether each is ready."""
    limit_anonymous()
    try:
        catalogue = context().languages.catalogue()
    except WorkerUnavailable as e:
        raise worker_unavailable() from e
    return _json({"object": "list", "data": [item.public for item in catalogue.languages]})


@blueprint.get("/v1/health")
@operation(
    "Service health",
    tag="service",
    auth=("none",),
    answers={200: Json("Always: `ok`, or `degraded` with what fails.", Health, {"ok": examples.HEALTH})},
)
def health() -> Response:
    """Report the health, always with 200: `ok`, or `degraded` and the failing checks."""
    return _json(_report(_checks() | _failing_languages(), "degraded"))


@blueprint.get("/healthz")
@operation("Liveness check", tag="service", auth=("none",), answers={200: Json("The process answers.", Alive)})
def alive() -> Response:
    """Report that the process answers."""
    return _json({"status": OK})


@blueprint.get("/readyz")
@operation(
    "Readiness check",
    tag="service",
    auth=("none",),
    answers={
        200: Json("The service accepts runs.", Health, {"ok": examples.HEALTH}),
        503: Json(
            "The service does not accept runs.",
            Health,
            {"down": examples.DOWN},
            {"Retry-After": "Seconds until a retry makes sense."},
        ),
    },
)
def ready() -> Response:
    """Report whether runs can be accepted: 200 or 503, with each check's name and result."""
    report = _report(_checks(), FAIL)
    return _json(report, 200 if report["status"] == OK else 503)


@blueprint.get("/metrics")
@operation(
    "Metrics for Prometheus",
    tag="service",
    auth=("none", "metrics"),
    answers={200: Answer("The metrics, in Prometheus's text format.", {"text/plain": {"type": "string"}})},
    errors=("overloaded", "too_many_connections"),
)
def show_metrics() -> Response:
    """Return the metrics of api and worker for Prometheus. 401 without METRICS_TOKEN, where that is set."""
    token = context().metrics_token
    if token is not None and not _is_bearer(request.headers.get("Authorization"), token):
        context().access.log_auth_failure("metrics_token", request.remote_addr)
        raise ApiError(
            401,
            "Give METRICS_TOKEN as the bearer token.",
            code="invalid_token",
            headers={"WWW-Authenticate": 'Bearer realm="runyard metrics"'},
        )
    page = context().metrics.page(context().dispatcher)
    response = Response(page, content_type=metrics.CONTENT_TYPE)
    response.call_on_close(context().places.documents.acquire_for_response(len(page), sharer()))
    return response


def _is_bearer(authorization: str | None, token: str) -> bool:
    """Return whether this is that token. Digests are compared, so that the time reveals nothing."""
    scheme, _, given = (authorization or "").partition(" ")
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given.strip(" "), token)]
    return hmac.compare_digest(*digests) and scheme.lower() == "bearer"


def _report(checks: dict[str, str], bad: str) -> dict[str, object]:
    good = all(state == OK for state in checks.values())
    return {"status": OK if good else bad, "version": VERSION, "checks": checks}


def _checks() -> dict[str, str]:
    disk = OK if context().room.is_there() else FAIL
    own = {"database": _database_check(), "storage": _storage_check(), "disk": disk}
    return _worker_checks() | _broker_check() | own


def _worker_checks() -> dict[str, str]:
    try:
        catalogue = context().languages.catalogue()
    except WorkerUnavailable:
        return {"worker": FAIL, "languages": FAIL, "sandboxes": FAIL, "posture": FAIL}
    confined = catalogue.confined and all(catalogue.posture.values())
    return {
        "worker": OK,
        "languages": OK if any(item.ready for item in catalogue.languages) else FAIL,
        "sandboxes": OK if catalogue.sandboxes else FAIL,
        "posture": OK if confined else FAIL,
        **{f"posture.{layer}": OK if held else FAIL for layer, held in catalogue.posture.items()},
    }


def _broker_check() -> dict[str, str]:
    """Report on the broker, where there is one."""
    if context().settings.amqp_url is None:
        return {}
    return {"broker": OK if context().dispatcher.is_connected else FAIL}


def is_healthy() -> bool:
    """Return whether `GET /v1/health` reports `ok`."""
    return all(state == OK for state in (_checks() | _failing_languages()).values())


def _failing_languages() -> dict[str, str]:
    """Name the languages whose sandboxes cannot be made. The others' runs are taken: the service is still ready."""
    try:
        failing = context().languages.catalogue().failing
    except WorkerUnavailable:
        return {}
    return {f"sandboxes.{name}": FAIL for name in failing}


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
    return json_response(data, status, headers)
