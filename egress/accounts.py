"""Hold the bounds of each run: connections at a time, new ones in a second, bytes, and lines in the log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.verdicts import Refused

if TYPE_CHECKING:
    from egress.policy import Policy

#: Of one run: connections at a time, and new ones in a second.
MOST_OPEN = 32
NEW_PER_S = 20.0
#: A connection beyond the rate waits for its turn, no longer than this.
MOST_DELAY_S = 5.0
#: Refused connections of a run that have a line each; those beyond are counted.
MOST_REFUSED_LINES = 20
#: Seconds after which the account of a run without a connection is deleted.
FORGET_S = 60.0


@dataclass(slots=True)
class RunAccount:
    """The connections and the usage of one run."""

    run: str
    key: str
    #: The bytes that it may still send and receive; None is no bound.
    left: int | None
    open: int = 0
    tokens: float = NEW_PER_S
    refilled_at: float = field(default_factory=time.monotonic)
    used_at: float = field(default_factory=time.monotonic)
    refused_lines: int = 0
    unlogged: int = 0
    #: The newest patterns of the run, and the number of changes that led to them.
    policy: Policy | None = None
    policy_version: int = -1

    def newest_policy(self, policy: Policy, version: int) -> Policy:
        """Return the newest patterns that this process knows: these, or those of a later change."""
        if self.policy is None or version >= self.policy_version:
            self.policy, self.policy_version = policy, version
        return self.policy

    def spend(self, size: int) -> None:
        """Count bytes that are sent or received. Raises Refused when there are no more."""
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise Refused("budget", "the run has sent and received as much as it may (egress_mb)")

    def may_log_refusal(self) -> bool:
        """Return whether one more refused connection has a line in the log; count it if not."""
        if self.refused_lines < MOST_REFUSED_LINES:
            self.refused_lines += 1
            return True
        self.unlogged += 1
        return False


class Accounts:
    """The accounts of all runs that have, or lately had, a connection."""

    def __init__(self, most: int) -> None:
        """`most` is how many connections there may be in all; one key may hold half of them."""
        self._most = most
        self._most_of_key = max(min(MOST_OPEN, most), most // 2)
        self._runs: dict[str, RunAccount] = {}
        self._keys: dict[str, int] = {}
        self.open = 0

    def account(self, run: str, key: str, left: int | None) -> RunAccount:
        """Return the account of a run. `left` is how many bytes the worker says it may still use."""
        account = self._runs.get(run)
        if account is None:
            account = self._runs[run] = RunAccount(run, key, left)
        elif left is not None:
            account.left = left if account.left is None else min(left, account.left)
        return account

    def open_connection(self, account: RunAccount) -> float:
        """Count one more connection and return the seconds to wait before it is served.

        Raises Refused when there are too many; then nothing is counted as open.
        """
        now = time.monotonic()
        account.tokens = min(NEW_PER_S, account.tokens + (now - account.refilled_at) * NEW_PER_S)
        account.refilled_at = account.used_at = now
        delay_s = max(0.0, (1 - account.tokens) / NEW_PER_S)
        if delay_s > MOST_DELAY_S:
            raise Refused("rate", f"a run may open {NEW_PER_S:g} connections a second")
        if account.open >= MOST_OPEN:
            raise Refused("connections", f"a run may have {MOST_OPEN} connections at a time")
        of_key = self._keys.get(account.key, 0)
        if self.open >= self._most or of_key >= self._most_of_key:
            raise Refused("connections", "the service has no more connections; try again later")
        account.spend(0)
        account.tokens -= 1
        account.open += 1
        self.open += 1
        self._keys[account.key] = of_key + 1
        return delay_s

    def close_connection(self, account: RunAccount) -> None:
        """Count one connection less."""
        account.open -= 1
        account.used_at = time.monotonic()
        self.open -= 1
        left = self._keys[account.key] - 1
        if left:
            self._keys[account.key] = left
        else:
            del self._keys[account.key]

    def forget_idle(self) -> list[RunAccount]:
        """Forget the runs that have no connection any more; return those with refusals that have no line."""
        before = time.monotonic() - FORGET_S
        idle = [one for one in self._runs.values() if not one.open and one.used_at < before]
        for account in idle:
            del self._runs[account.run]
        return [one for one in idle if one.unlogged]
