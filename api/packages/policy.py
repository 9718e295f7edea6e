"""Check the packages that a run asks for: their form, and what the service and the key's plan permit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from api.errors import ApiError, invalid
from api.packages.patterns_file import load_patterns
from protocol.limits import JobInvalid
from protocol.package_patterns import PackagePattern, of_ecosystem, permitted
from protocol.packages import PackageRequest, ecosystem_of, parse_requests

if TYPE_CHECKING:
    from api.keys.plans import Plan
    from config.settings import Settings

#: The near matches that a message names.
MAX_NEAR = 3


@dataclass(frozen=True, slots=True)
class PackageRules:
    """The packages that the service permits: PACKAGES and PACKAGES_FILE."""

    mode: Literal["off", "approved", "any"] = "off"
    patterns: tuple[PackagePattern, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> PackageRules:
        """Return the rules of the settings. Raises SettingsError."""
        return cls(settings.package_mode, load_patterns(settings))

    def permit(self, language: str, texts: Sequence[str], plan: Plan | None) -> tuple[str, ...]:
        """Return the entries in normal form and order, with the bounds of the patterns that permit them.

        `language` is an id. Raises ApiError 400 naming the first entry that is wrong or not permitted.
        """
        if not texts:
            return ()
        try:
            requests = parse_requests(ecosystem_of(language), texts)
        except JobInvalid as e:
            raise invalid(e.message, param=e.param, code=e.code) from e
        if self.mode == "off":
            reason = "this service provides no packages (PACKAGES is off; `approved` or `any` turns them on)"
            raise _not_allowed(0, reason)
        return tuple(self._permitted(index, request, plan).text for index, request in enumerate(requests))

    def _permitted(self, index: int, request: PackageRequest, plan: Plan | None) -> PackageRequest:
        found = request
        if self.mode == "approved":
            found = _within(index, found, self.patterns, "PACKAGES_FILE of this service does not permit it")
        if plan is not None and plan.package_patterns is not None:
            permits = "does not permit it" if plan.package_patterns else "permits no packages"
            reason = f"the plan of this key ({plan.name}) {permits}"
            found = _within(index, found, plan.package_patterns, reason)
        return found


def _within(
    index: int, request: PackageRequest, patterns: tuple[PackagePattern, ...], reason: str
) -> PackageRequest:
    own = of_ecosystem(patterns, request.ecosystem)
    found = permitted(own, request)
    if found is not None:
        return found
    near = _near(own, request)
    raise _not_allowed(index, f"{reason}; permitted: {', '.join(near)}" if near else reason)


def _near(patterns: tuple[PackagePattern, ...], request: PackageRequest) -> list[str]:
    """Return the patterns of the same package, or else of those with a similar name."""
    same = [pattern.text for pattern in patterns if pattern.matches(request)]
    if same:
        return same[:MAX_NEAR]
    by_name = {pattern.name: pattern.text for pattern in patterns if pattern.name}
    return [by_name[name] for name in difflib.get_close_matches(request.identity, by_name, n=MAX_NEAR)]


def _not_allowed(index: int, reason: str) -> ApiError:
    param = f"packages.{index}"
    return ApiError(400, f"{param}: {reason}", code="package_not_allowed", param=param)
