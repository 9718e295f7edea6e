"""Decide by the patterns of a run whether it may reach a host and port. Prohibitions win."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.network_patterns import Pattern, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable


class NotPermitted(Exception):
    """A host or port that the patterns of the run do not permit; the message names the rule."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The patterns of one run."""

    allow: tuple[Pattern, ...]
    deny: tuple[Pattern, ...] = ()

    @classmethod
    def parse(cls, allow: Iterable[str], deny: Iterable[str]) -> Policy:
        """Return the policy of these texts. Raises PatternInvalid."""
        return cls(
            tuple(parse_pattern(text) for text in allow),
            tuple(parse_pattern(text, is_denied=True) for text in deny),
        )

    def check(self, host: str, port: int) -> bool:
        """Check host and port. Returns whether the permission names the address itself. Raises NotPermitted."""
        for pattern in self.deny:
            if pattern.matches(host, port):
                raise NotPermitted(f"network.deny has {pattern.text}")
        permitting = [pattern for pattern in self.allow if pattern.matches(host, port)]
        if permitting:
            return any(pattern.kind == "address" for pattern in permitting)
        of_host = [pattern for pattern in self.allow if pattern.matches_host(host)]
        if of_host:
            ports = sorted({port for pattern in of_host for port in pattern.ports or ()})
            raise NotPermitted(f"network.allow permits this host on port {', '.join(map(str, ports))} alone")
        raise NotPermitted("no pattern of network.allow permits it")
