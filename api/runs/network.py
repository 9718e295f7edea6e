"""Check the hosts that a run asks for against what the service and the key's plan permit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from api.errors import ApiError
from config.network_patterns import Pattern, parse_pattern

if TYPE_CHECKING:
    from api.keys.plans import Plan
    from protocol.network import NetworkAccess


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """The hosts that the service permits: EGRESS and EGRESS_ALLOW."""

    is_on: bool = False
    permitted: tuple[Pattern, ...] = ()

    def permit(self, asked: NetworkAccess | None, plan: Plan | None) -> NetworkAccess | None:
        """Return the access with the bounds of the plan. Raises ApiError 403 naming the first pattern beyond."""
        if asked is None or not asked.allow:
            return asked
        if not self.is_on:
            raise _not_allowed(0, asked.allow[0], "this service gives programs no network (EGRESS is off)")
        for index, text in enumerate(asked.allow):
            pattern = parse_pattern(text)
            if not any(wide.covers(pattern) for wide in self.permitted):
                raise _not_allowed(index, text, "EGRESS_ALLOW of this service does not permit it")
            of_plan = None if plan is None else plan.egress
            if plan is not None and of_plan is not None and not any(wide.covers(pattern) for wide in of_plan):
                raise _not_allowed(index, text, f"the plan of this key ({plan.name}) does not permit it")
        return asked if plan is None else replace(asked, most_bytes=plan.egress_bytes)


def _not_allowed(index: int, text: str, reason: str) -> ApiError:
    where = f"network.allow.{index}"
    return ApiError(403, f"{where}: {text} is not permitted: {reason}", code="network_not_allowed", param=where)
