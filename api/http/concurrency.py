"""Bound the threads held by slow work: waiting for a run, receiving a file, sending a long answer.

A thread serves one connection, so a client that waits, sends or reads slowly holds one. Each kind of work has a
pool of places, and no caller may hold a whole pool: a part is reserved for callers below an equal share. The other
threads serve requests that are answered at once: health, cancel, a look at a run. Those who follow events hold no
thread between two of them (`api.http.long_answers`); their pool bounds descriptors and memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from api.errors import ApiError
from config.settings import DOCUMENT_PLACES, DOCUMENT_RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.settings import Settings

RETRY_S = 2
RUNS_BEYOND_SHARE = (
    "This key uses its share of the service, and the rest is in use: try again when a run has ended."
)
TRANSFERS_BEYOND_SHARE = (
    "This client uses its share of the connections that {what}; the rest is reserved for others: try again when "
    "one of them has ended."
)
#: WebSockets at the same time.
ATTACHED_PLACES = 256
#: A smaller answer fits into the socket's buffer: however slowly it is read, no thread waits for that.
SMALL_BYTES = 64 * 1024


class ConcurrencyLimiter:
    """A bounded number of places, each released once."""

    def __init__(
        self,
        number: int,
        none_left: str,
        *,
        reserved: int = 0,
        beyond_share: str = RUNS_BEYOND_SHARE,
        code: str = "too_many_runs",
    ) -> None:
        """`none_left` is the message when no place is free, `beyond_share` for a caller that holds too many.

        `reserved` places are for sharers that hold less than an equal share of all of them. `code` is that of a
        refusal for that reason.
        """
        self._number = self._free = number
        self._reserved = reserved
        self._none_left = none_left
        self._beyond_share = beyond_share
        self._code = code
        self._lock = Lock()
        self._held: Counter[str] = Counter()

    def acquire(self, sharer: str) -> Callable[[], None]:
        """Take a place and return what gives it back, which may be called more than once.

        `sharer` is a key's id, or the address of a client without one. Raises ApiError 503 when there is none, and
        429 for a sharer whose share is used up.
        """
        with self._lock:
            if self._free <= self._reserved and not self._holds_little(sharer):
                raise ApiError(429, self._beyond_share, code=self._code, retry_after_s=RETRY_S)
            if self._free == 0:
                raise ApiError(503, self._none_left, code="overloaded", retry_after_s=RETRY_S)
            self._free -= 1
            self._held[sharer] += 1
        given_back = False

        def release() -> None:
            nonlocal given_back
            with self._lock:
                if given_back:
                    return
                given_back = True
                self._free += 1
                self._held[sharer] -= 1
                if not self._held[sharer]:
                    del self._held[sharer]

        return release

    def _holds_little(self, sharer: str) -> bool:
        """Return whether it holds less than an equal share; one alone shares with the next to come."""
        held = self._held.get(sharer, 0)
        sharers = max(2, len(self._held) + (not held))
        return not self._reserved or held * sharers < self._number

    def acquire_for_response(self, size: int, sharer: str) -> Callable[[], None]:
        """Take a place for an answer of `size` bytes, if it can keep a thread waiting. Raises as `acquire` does."""
        return self.acquire(sharer) if size > SMALL_BYTES else nothing


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools of one process: `api_threads` of the settings has a thread for each place of the first four."""

    #: Those who wait for a run, or stream one.
    waiters: ConcurrencyLimiter
    #: Those who read a long answer.
    readers: ConcurrencyLimiter
    #: Those who bring a file.
    uploads: ConcurrencyLimiter
    #: Those who read what is long and needs no key: the files of the pages, the OpenAPI document, the numbers.
    documents: ConcurrencyLimiter
    #: Those who follow events, or wait for a process: they hold no thread, but two descriptors each.
    followers: ConcurrencyLimiter
    #: WebSockets: the same.
    attached: ConcurrencyLimiter

    @classmethod
    def of(cls, settings: Settings) -> Pools:
        """Return the pools of these settings."""

        def transfers(number: int, reserved: int, what: str) -> ConcurrencyLimiter:
            return ConcurrencyLimiter(
                number,
                f"Too many clients {what}.",
                reserved=reserved,
                beyond_share=TRANSFERS_BEYOND_SHARE.format(what=what),
                code="too_many_connections",
            )

        return cls(
            waiters=ConcurrencyLimiter(
                settings.waiting_places, "Too many runs are being waited for.", reserved=settings.waiting_reserve
            ),
            readers=transfers(settings.reading_places, settings.reading_reserve, "read long answers"),
            uploads=transfers(settings.upload_places, settings.upload_reserve, "bring files"),
            documents=transfers(DOCUMENT_PLACES, DOCUMENT_RESERVE, "read the documents of this service"),
            followers=transfers(
                settings.stream_places, settings.stream_reserve, "follow events or wait for a process"
            ),
            attached=transfers(ATTACHED_PLACES, ATTACHED_PLACES // 4, "are attached by a WebSocket"),
        )


def nothing() -> None:
    """Release nothing: no place was taken."""
