"""The limits of a run in a session: its own time, and what it may leave; all else is the session's."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from api.errors import invalid
from api.runs.requests import RunRequest, parse_run
from protocol.session import DEFAULT_TIMEOUT_MS, RUN_LIMITS, RUN_RULES

if TYPE_CHECKING:
    from api.keys.plans import Plan

_CONTEXT = re.compile(r"[!-~]{1,128}")
#: The fields that a run in a session takes from its session.
NOT_IN_A_SESSION = ("isolation", "network", "packages", "stdin_open")


def parse_session_run(asked: dict[str, Any], plan: Plan | None, most_timeout_ms: int) -> RunRequest:
    """Return the request of a run in a session. Raises ApiError 400 naming the first wrong field."""
    for name in NOT_IN_A_SESSION:
        if asked.get(name) is not None:
            raise invalid(f"{name}: is the session's", param=name, code="unknown_field")
    limits = asked.get("limits")
    for name, value in limits.items() if isinstance(limits, dict) else ():
        if name not in RUN_LIMITS and value is not None:
            raise invalid(f"limits.{name}: is the session's", param=f"limits.{name}", code="unknown_field")
    context = checked_context(asked.get("context"))
    request = parse_run({name: value for name, value in asked.items() if name != "context"}, RUN_RULES)
    ceilings = {} if plan is None else {name: plan.ceiling(name) for name in RUN_LIMITS if name != "timeout_ms"}
    own_ms = None if plan is None else plan.session_timeout_ms
    ceilings["timeout_ms"] = most_timeout_ms if own_ms is None else min(own_ms, most_timeout_ms)
    return replace(request, limits=_bounded(request.limits, ceilings), context=context)


def checked_context(name: object) -> str:
    """Return the context of a run, empty for the default one. Raises ApiError 400."""
    if name is None:
        return ""
    if not isinstance(name, str):
        raise invalid("context: must be a string", param="context", code="invalid_type")
    if not _CONTEXT.fullmatch(name):
        raise invalid("context: must be the id or the name of a context", param="context")
    return name


def _bounded(asked: dict[str, int | float], ceilings: dict[str, int | float]) -> dict[str, int | float]:
    """Return the limits with defaults lowered to the ceilings. Raises ApiError 400 for one that lies above."""
    limits = {"timeout_ms": DEFAULT_TIMEOUT_MS} | asked
    for name, most in ceilings.items():
        if name in asked and asked[name] > most:
            message = f"limits.{name}: {asked[name]} exceeds this key's maximum of {most}"
            raise invalid(message, param=f"limits.{name}", code="limit_exceeds_maximum")
        rule = RUN_RULES[name]
        limits[name] = min(limits.get(name, rule.number(rule.default or 0)), most)
    return limits
