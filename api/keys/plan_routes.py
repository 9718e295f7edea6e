"""`/v1/admin/plans`: the plans in force, and whether the file of plans is one of them."""

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
        "The plans in force. `error` is set while `PLANS_FILE` has been changed and is invalid: the plans before "
        "stay in force."
    ),
    auth=("admin",),
    answers={200: Json("The plans.", PlansOut, {"free": examples.PLANS})},
)
def admin_get_plans() -> Response:
    """Return the plans in force, when they were loaded, and the problem of a file that is not in force."""
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
                    limits=plan.ceilings(),
                )
                for name, plan in found.items()
            },
        )
    )
