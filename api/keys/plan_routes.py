"""`/v1/admin/plans`: the current plans, and whether the present file of plans is loaded."""

from __future__ import annotations

from flask import Blueprint, Response

from api.context import context, require_admin
from api.keys.routes import answer
from api.keys.schemas import PlanOut, PlansOut
from api.openapi import examples_keys as examples
from api.openapi.decorator import Json, operation

blueprint = Blueprint("plans", __name__)


@blueprint.get("/v1/admin/plans")
@operation(
    "Get the plans",
    tag="admin",
    description=(
        "The current plans. `error` is set while `PLANS_FILE` has been changed and is invalid: the previous plans "
        "stay valid."
    ),
    auth=("admin",),
    answers={200: Json("The plans.", PlansOut, {"free": examples.PLANS})},
)
def admin_get_plans() -> Response:
    """Return the current plans, the time of their loading, and the problem of a file that was not loaded."""
    require_admin()
    plans, reloader = context().plans, context().plan_reloader
    found = {name: plan for name in list(plans) if (plan := plans.get(name)) is not None}
    return answer(
        PlansOut(
            object="plans",
            loaded_at=reloader.loaded_at,
            error=reloader.error,
            plans={
                name: PlanOut(
                    runs=plan.runs,
                    period=plan.period,
                    rate_per_minute=plan.bucket.rate * 60,
                    burst=plan.bucket.burst,
                    concurrency=plan.concurrency,
                    queue=plan.queue,
                    storage_bytes=plan.storage_bytes,
                    records_bytes=plan.records_bytes,
                    sessions=plan.sessions,
                    session_age_s=plan.session_age_s,
                    session_seconds=plan.session_seconds,
                    session_cpu_seconds=plan.session_cpu_seconds,
                    session_timeout_ms=plan.session_timeout_ms,
                    limits=plan.ceilings(),
                )
                for name, plan in found.items()
            },
        )
    )
