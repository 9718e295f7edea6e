"""Handle the requests that attach a connection to a process: `ticket` and `attach` of `worker.sessions`.

`ticket`, `p`: `{"ticket":{"ticket":T,"expires_in_s":S}}`.
`attach`, `p`, `after`, and `key` or `ticket`: `{"attached":{"key":K,"has_terminal":true|false}}`, and then frames
    both ways (`protocol.attach`) until either side hangs up. Nothing is sent to the worker on that connection
    before its answer.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from protocol.result import Refusal
from sandbox.sessions.memory import NoMemory
from sandbox.sessions.runs import NO_MEMORY, PAUSED
from sandbox.sessions.session import SessionGone, SessionPaused
from worker.attach_tickets import TICKET_S, TicketGrant, TicketTable
from worker.attachments import MOST_OF_A_PROCESS, Attachment, AttachmentHub, TooManyAttachments

if TYPE_CHECKING:
    from sandbox.sessions.processes import SessionProcess
    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable
    from worker.handlers import Connection

NO_TICKET = Refusal(403, "ticket: is unknown, used, or older than 30 s", "ticket_invalid", "ticket")
NO_PROCESS = Refusal(404, "there is no such process in this session", "process_not_found")
BAD_AFTER = Refusal(400, "after: must be an integer of at least 0", "invalid_value", "after")
ENDED = Refusal(410, "this session has ended", "session_ended")
FULL = Refusal(
    409, f"this process has {MOST_OF_A_PROCESS} attached clients, or the service all it may", "session_busy"
)


class AttachHandlers:
    """Issues tickets, and hands the connections that show one, or a key, to the hub."""

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions
        self._tickets = TicketTable()
        self._hub = AttachmentHub()

    def ticket(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        """Issue a ticket for a process."""
        process = session.processes.find(str(request.get("p")))
        if process is None:
            connection.refuse(NO_PROCESS)
            return
        with session.in_use():  # which counts as activity
            ticket = self._tickets.issue(TicketGrant(session.id, session.spec.key, process.id))
        connection.send({"ticket": {"ticket": ticket, "expires_in_s": TICKET_S}})

    def attach(self, request: dict[str, Any], connection: Connection) -> None:
        """Attach the connection to a process. Raises ConnectionError when it is the hub's."""
        found = self._admit(request)
        if isinstance(found, Refusal):
            connection.refuse(found)
            return
        session, process = found
        after = request.get("after", 0)
        if after == "now":
            after = process.last_seq
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            connection.refuse(BAD_AFTER)
            return
        sock = socket.socket(fileno=os.dup(connection.channel.closed_fd()))
        try:
            attachment = Attachment(session, process, sock, after)
        except (SessionGone, SessionPaused, NoMemory) as e:
            sock.close()
            paused = PAUSED if isinstance(e, SessionPaused) else NO_MEMORY
            connection.refuse(ENDED if isinstance(e, SessionGone) else paused)
            return
        try:
            sock.setblocking(True)
            self._hub.reserve(attachment)
            has_terminal = process.spec.terminal is not None
            connection.send({"attached": {"key": session.spec.key, "has_terminal": has_terminal}})
        except TooManyAttachments:
            attachment.close()
            connection.refuse(FULL)
            return
        except BaseException:
            self._hub.give_up(attachment)
            raise
        sock.setblocking(False)
        self._hub.begin(attachment)
        raise ConnectionError("this connection is an attachment's now")

    def _admit(self, request: dict[str, Any]) -> tuple[LiveSession, SessionProcess] | Refusal:
        session_id, name = str(request.get("id")), str(request.get("p"))
        session = self._sessions.get(session_id)
        process = session.processes.find(name) if session is not None else None
        ticket = request.get("ticket")
        if ticket is not None:
            grant = self._tickets.use(str(ticket), session_id, process.id if process is not None else "")
            if grant is None:
                return NO_TICKET
            key = grant.key
        else:
            key = str(request.get("key"))
        if session is None or session.spec.key != key:
            return ENDED
        return NO_PROCESS if process is None else (session, process)
