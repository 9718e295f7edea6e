"""Apply a key's plan to a run: ceilings of limits, the number of runs, and storage for artifacts.

The counting itself is a part of the transaction that accepts a run (`records.runs.RunStore.accept`), so that of any
number of requests at once no more are accepted than there are runs left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from api.errors import ApiError, invalid
from config.clock import now_ms, rfc3339
from protocol.limits import LIMIT_RULES, JobInvalid
from records.files import StorageQuotaExceeded
from records.runs import OverQuota

if TYPE_CHECKING:
    from api.keys.authentication import Caller
    from api.keys.plans import Plan
    from api.runs.requests import RunRequest
    from records.usage import Quota

NEVER_RESETS = "never"
#: Retry-After for quotas that never reset: the key may get another plan, so suggest a day.
ASK_AGAIN_S = 86_400


def clamp_to_plan(request: RunRequest, plan: Plan | None, pids_default: int) -> RunRequest:
    """Return the request with limits that the plan allows. Raises ApiError 400 for a limit requested above it."""
    if plan is None or not plan.limits:
        return request
    try:
        return replace(request, limits=plan.bounded(request.limits, pids_default=pids_default))
    except JobInvalid as e:
        raise invalid(e.message, param=e.param, code=e.code) from e


def quota_for(plan: Plan | None, request: RunRequest, at_ms: int) -> tuple[Quota | None, int | None]:
    """Return the run quota and the storage bound of the key; None where there is no such bound."""
    if plan is None:
        return None, None
    artifacts = request.limits.get("max_artifact_files", LIMIT_RULES["max_artifact_files"].default)
    return plan.quota(at_ms), plan.storage_bytes if artifacts else None


def quota_error(caller: Caller, found: object) -> ApiError:
    """Return the error for a run beyond the quota or the storage of the plan."""
    assert caller.plan is not None
    if isinstance(found, StorageQuotaExceeded):
        return ApiError(
            413,
            f"This key keeps {found.used_bytes} of {found.limit_bytes} bytes of files: delete some, wait until "
            "they expire, or give limits.max_artifact_files 0.",
            code="storage_quota_exceeded",
        )
    assert isinstance(found, OverQuota)
    now = now_ms()
    plan, resets_at_ms = caller.plan, caller.plan.resets_at_ms(now)
    reset = NEVER_RESETS if resets_at_ms is None else rfc3339(resets_at_ms)
    headers = {
        "x-quota-limit-runs": str(found.limit),
        "x-quota-remaining-runs": str(max(0, found.limit - found.used)),
        "x-quota-reset-runs": reset,
    }
    if resets_at_ms is None:
        headers["Retry-After"] = str(ASK_AGAIN_S)
        message = f"This key has used all {found.limit} runs of its plan ({plan.name}); the quota does not reset."
    else:
        headers["Retry-After"] = str(-(-(resets_at_ms - now) // 1000))
        used = f"This key has used its {found.limit} runs of this month (plan {plan.name})"
        message = f"{used}; the quota resets at {reset}."
    return ApiError(429, message, code="quota_exceeded", headers=headers)
