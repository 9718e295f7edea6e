"""Making a call until it is answered: when again, after how long, and when not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from runyard._steps import Call, Open, Operation, Pause, Reply, Send
from runyard.errors import ApiError, Conflict, ConnectionFailed, ServerError, api_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runyard._steps import Notice

#: Nothing was started or kept: any call may be repeated.
_TURNED_AWAY = frozenset({429, 503})
#: Answers of a proxy: the service may have received the request.
_BETWEEN = frozenset({502, 504})
#: A run of this Idempotency-Key is still ending: ours, whose answer was lost.
_IN_USE = "idempotency_key_in_use"


@dataclass(slots=True)
class Delivery:
    """Records whether a call may have reached the service although its answer is unknown."""

    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number of retries of a call, and the longest pauses, in seconds.

    `Retry-After` is obeyed; one longer than `longest_s` is not waited for. Without it the pauses double from
    `first_s`, each shortened at random so that many clients do not retry at the same time.
    """

    retries: int = 4
    first_s: float = 0.25
    longest_s: float = 60.0

    def pause_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Return the pause before attempt number `attempt`; the first retry is 1."""
        if retry_after_s is not None:
            return retry_after_s
        most: float = min(self.first_s * 2 ** (attempt - 1), self.longest_s)
        return most * (0.5 + random.random() / 2)  # noqa: S311  # spreads load, guards nothing

    def again(self, attempt: int, retry_after_s: float | None) -> bool:
        """Return whether attempt number `attempt` may be made."""
        return attempt <= self.retries and (retry_after_s is None or retry_after_s <= self.longest_s)


def exchange(
    call: Call,
    policy: RetryPolicy,
    notice: Notice | None = None,
    *,
    opened: bool = False,
    outlast: bool = True,
    delivery: Delivery | None = None,
) -> Operation[Reply]:
    """Make a call until it is answered with 2xx (or 3xx). Raises ApiError, ConnectionFailed.

    `outlast`: a run of ours whose answer was lost is waited for; else the Conflict that names it is raised at once.
    `delivery` is kept up to date, for a caller who is interrupted on the way.
    """
    delivery = delivery or Delivery()
    attempt, lost = 0, False
    while True:
        attempt += 1
        error: ApiError | ConnectionFailed
        delivery.in_doubt = True
        try:
            reply: Reply = yield Open(call) if opened else Send(call)
        except ConnectionFailed as e:
            if e.sent and not call.safe:
                raise
            delivery.in_doubt = lost = lost or e.sent
            error, retry_after_s = e, None
        else:
            delivery.in_doubt = lost and reply.status >= 400
            if reply.status < 400:
                return reply
            retry_after_s = retry_after(reply.headers)
            error = api_error(reply.status, reply.headers, reply.body, retry_after_s)
            if not _worth_again(error, call, lost=lost and outlast):
                raise error
        if not policy.again(attempt, retry_after_s):
            raise error
        pause_s = policy.pause_s(attempt, retry_after_s)
        if notice is not None:
            notice(error, pause_s)
        yield Pause(pause_s)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse `Retry-After`, a number or a date, into seconds from now; None if it is neither."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _worth_again(error: ApiError, call: Call, *, lost: bool) -> bool:
    if error.status in _TURNED_AWAY:
        return True
    if isinstance(error, ServerError) and error.status in _BETWEEN:
        return call.safe
    return lost and isinstance(error, Conflict) and error.code == _IN_USE
