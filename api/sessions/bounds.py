"""Apply a key's plan to its sessions: ceilings of limits and of age, and what sessions may use in a period."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from api.errors import ApiError, invalid
from api.runs.quota import ASK_AGAIN_S, NEVER_RESETS
from config.clock import now_ms, rfc3339
from protocol.session import DEFAULT_LIMITS, most_disk_mb

if TYPE_CHECKING:
    from api.keys.plans import Plan
    from api.sessions.requests import SessionRequest
    from records.usage import UsageStore


def bounded(request: SessionRequest, plan: Plan | None) -> SessionRequest:
    """Return the request within its plan: what was not asked for is lowered. Raises ApiError 400 for the rest."""
    if plan is None:
        return request
    limits = dict(request.limits)
    for name in DEFAULT_LIMITS.keys() & plan.limits.keys():
        most = plan.ceiling(name)
        if limits[name] > most and name in request.given:
            raise _beyond(f"limits.{name}", limits[name], most)
        limits[name] = min(limits[name], most)
    most_mb = most_disk_mb(limits["memory_mb"])
    if limits["disk_mb"] > most_mb and "disk_mb" in request.given:
        raise _beyond("limits.disk_mb", limits["disk_mb"], most_mb)
    limits["disk_mb"] = min(limits["disk_mb"], most_mb)
    age_s = request.max_age_s
    if plan.session_age_s is not None and age_s > plan.session_age_s:
        if "max_age_s" in request.given:
            raise _beyond("max_age_s", age_s, plan.session_age_s)
        age_s = plan.session_age_s
    return replace(request, limits=limits, max_age_s=age_s)


def check_age(max_age_s: int | None, plan: Plan | None) -> None:
    """Check an age that is asked for later. Raises ApiError 400."""
    if max_age_s is None or plan is None or plan.session_age_s is None or max_age_s <= plan.session_age_s:
        return
    raise _beyond("max_age_s", max_age_s, plan.session_age_s)


def check_quota(owner: str, plan: Plan | None, usage: UsageStore) -> None:
    """Check that a key's sessions may use more in this period. Raises ApiError 429."""
    beyond = beyond_quota(owner, plan, usage)
    if beyond is None or plan is None:
        return
    now = now_ms()
    resets_at_ms = plan.resets_at_ms(now)
    reset = NEVER_RESETS if resets_at_ms is None else rfc3339(resets_at_ms)
    again_s = ASK_AGAIN_S if resets_at_ms is None else -(-(resets_at_ms - now) // 1000)
    raise ApiError(
        429,
        f"This key's sessions have used all {beyond} of its plan ({plan.name}); they are given anew: {reset}.",
        code="quota_exceeded",
        headers={"Retry-After": str(again_s)},
    )


def beyond_quota(owner: str, plan: Plan | None, usage: UsageStore) -> str | None:
    """Return what a key's sessions have used up in this period, in words; None while they may use more."""
    if plan is None or (plan.session_seconds is None and plan.session_cpu_seconds is None):
        return None
    used_ms, cpu_ms = usage.session_usage(owner, _first_day(plan))
    if plan.session_seconds is not None and used_ms >= plan.session_seconds * 1000:
        return f"{plan.session_seconds} session seconds"
    if plan.session_cpu_seconds is not None and cpu_ms >= plan.session_cpu_seconds * 1000:
        return f"{plan.session_cpu_seconds} CPU seconds of sessions"
    return None


def _first_day(plan: Plan) -> date | None:
    """Return the first day of this period of the plan; None for one that never ends."""
    return None if plan.period == "all" else datetime.now(UTC).date().replace(day=1)


def _beyond(name: str, value: float, most: float) -> ApiError:
    return invalid(
        f"{name}: {value:g} exceeds this key's maximum of {most:g}"
        if isinstance(value, float)
        else f"{name}: {value} exceeds this key's maximum of {most}",
        param=name,
        code="limit_exceeds_maximum",
    )
