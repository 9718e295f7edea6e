"""Handle the requests that change, pause and resume a session; `worker.sessions` lists them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from protocol.limits import JobInvalid
from protocol.result import Refusal
from protocol.session import decode_change
from sandbox.sessions.network_change import change_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable
    from worker.handlers import Connection

NOT_PAUSED = Refusal(
    409, "a run or a file operation is under way, or this machine cannot freeze the session", "session_busy"
)


class LifeHandlers:
    """Answers the requests about the life of a session that lives."""

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions

    @property
    def operations(self) -> Mapping[str, Callable[[LiveSession, dict[str, Any], Connection], None]]:
        """Return what is done by name."""
        return {"change": self._change, "pause": self._pause, "resume": self._resume}

    def _change(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        try:
            change = decode_change(request.get("change"))
            access = change.network
            refusal = None if access is None else change_network(session, access, self._sessions.egress)
        except JobInvalid as e:
            refusal = Refusal(400, e.message, e.code, e.param)
        if refusal is not None:
            connection.refuse(refusal)
            return
        session.change(replace(change, network=None))
        connection.send({"session": session.facts()})

    def _pause(self, session: LiveSession, _request: dict[str, Any], connection: Connection) -> None:
        if session.pause():
            connection.send({"session": session.facts()})
        else:
            connection.refuse(NOT_PAUSED)

    def _resume(self, session: LiveSession, _request: dict[str, Any], connection: Connection) -> None:
        session.resume()
        connection.send({"session": session.facts()})
