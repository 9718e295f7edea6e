"""Tickets to attach to a process: each is good once, and for a short time."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

TICKET_S = 30.0
#: Tickets that are neither used nor out of date; of more the oldest is forgotten.
MOST_TICKETS = 4096
_BYTES = 32


class TicketGrant(NamedTuple):
    """The process that a ticket admits to, and whose it is."""

    session_id: str
    key: str
    process_id: str


class TicketTable:
    """Issues tickets and takes them back. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: The grant of each ticket and its expiry, the oldest first.
        self._issued: OrderedDict[str, tuple[TicketGrant, float]] = OrderedDict()

    def issue(self, grant: TicketGrant) -> str:
        """Return a new ticket."""
        ticket = "at_" + secrets.token_urlsafe(_BYTES)
        with self._lock:
            self._forget_late()
            while len(self._issued) >= MOST_TICKETS:
                self._issued.popitem(last=False)
            self._issued[ticket] = grant, self._clock() + TICKET_S
        return ticket

    def use(self, ticket: str, session_id: str, process: str) -> TicketGrant | None:
        """Use a ticket up; None for one that is unknown, was used, is late, or is for another process.

        A ticket that is shown for another process is used up too.
        """
        with self._lock:
            self._forget_late()
            found = self._issued.pop(ticket, None)
        if found is None:
            return None
        grant, _ = found
        return grant if (grant.session_id, grant.process_id) == (session_id, process) else None

    def _forget_late(self) -> None:
        now = self._clock()
        while self._issued:
            ticket = next(iter(self._issued))
            if self._issued[ticket][1] > now:
                return
            del self._issued[ticket]
