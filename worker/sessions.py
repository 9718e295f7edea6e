"""Handle the requests about sessions at the worker's socket: `{"op":"session","do":D,"id":S,"key":K,…}`.

`id` and `key` name a session and whose it is; another key's is unknown. Whatever cannot be done is answered by
`{"refused":{…}}`, as everywhere.

`create`, `session`: `{"session":{…}}`, the facts of the new session.
`facts`, `end`: `{"session":{…}}`, or `{"session":null}`; `end` has a `reason`.
`list`: `{"sessions":[{…},…]}`: of all keys.
`start`, `process` (`argv env cwd tag timeout_ms`): `{"process":{…}}`.
`processes`: `{"processes":[{…},…]}`.
`process`, `p`, `wait_s`: `{"process":{…}}` when it has ended, or that time is over; with `output` also
    `stdout stderr stdout_truncated stderr_truncated`, as base64.
`events`, `p`, `after`: lines `{"event":kind,"seq":…,"data":base64,"t_ms":…}`, then `{"process":{…}}` at its end.
`signal`, `p`, `number`; `kill`, `p`: `{"process":{…}}`.
`stdin`, `p`, `close`, and then pieces: `{"process":{…}}`.
`file`, `name`, `args` (bytes, as text of one character for each), for `write` then pieces: `{"entry":{…}}`;
    for `read` then pieces, the empty one at the end; for `list` `{"entry":{…},"entries":[{…},…]}`.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from protocol.limits import JobInvalid
from protocol.result import Refusal
from protocol.session import decode_session
from sandbox.frames import ProtocolError
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.files import Entry, FileRefused, entries, operation
from sandbox.sessions.processes import LIVE_OUTPUT_BYTES, ProcessSpec, SessionProcess
from sandbox.sessions.session import SessionGone
from sandbox.sessions.stream import TooManyChannels

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable
    from worker.handlers import Connection
    from worker.runs import RunTable

log = logging.getLogger(__name__)

#: A follower of a silent process is looked after this often: whether its connection is still there.
FOLLOW_S = 5.0
#: Input that a process does not take for so long is given up.
STDIN_S = 60.0
ENDED = Refusal(410, "this session has ended", "session_ended")
NO_PROCESS = Refusal(404, "there is no such process in this session", "process_not_found")
FULL = Refusal(409, "this session has all the processes that it may", "session_busy")
#: The status of what a file operation may be refused for.
STATUSES = {
    "file_not_found": 404,
    "file_not_permitted": 403,
    "not_a_directory": 409,
    "not_a_file": 409,
    "file_exists": 409,
    "disk_full": 507,
    "invalid_path": 400,
    "incomplete_body": 400,
    "io_error": 500,
}


class SessionHandlers:
    """Answers the requests about the sessions of one worker."""

    def __init__(self, sessions: SessionTable, runs: RunTable) -> None:
        self._sessions = sessions
        sessions.on_end = lambda facts: runs.tell({"session": facts})
        runs.sessions = lambda: {
            "live": [session.id for session in sessions.all()],
            "ended": sessions.ends(),
        }
        self._operations: dict[str, Callable[[dict[str, Any], Connection], None]] = {
            "create": self._create,
            "facts": self._facts,
            "list": self._list,
            "end": self._end,
        }
        self._inside: dict[str, Callable[[LiveSession, dict[str, Any], Connection], None]] = {
            "start": self._start,
            "processes": self._processes,
            "process": self._process,
            "events": self._events,
            "signal": self._signal,
            "kill": self._kill,
            "stdin": self._stdin,
            "file": self._file,
        }

    def answer(self, request: dict[str, Any], connection: Connection) -> None:
        """Do what a request asks, and answer it. Raises OSError when the peer is gone."""
        do = str(request.get("do"))
        if do in self._operations:
            self._operations[do](request, connection)
            return
        inside = self._inside.get(do)
        if inside is None:
            connection.refuse(Refusal(400, "unknown operation", "invalid_value"))
            return
        session = self._find(request)
        if session is None:
            connection.refuse(ENDED)
            return
        try:
            inside(session, request, connection)
        except (SessionGone, ChannelEnded):
            connection.refuse(ENDED)
        except TooManyChannels:
            connection.refuse(FULL)
        except FileRefused as e:
            connection.refuse(Refusal(STATUSES[e.code], e.message, e.code, "path"))
        except ProtocolError as e:
            log.info("a session's sandbox sent what is not allowed", extra={"reason": str(e)})
            self._sessions.end(session.id, "failed")
            connection.refuse(ENDED)

    def _find(self, request: dict[str, Any]) -> LiveSession | None:
        session = self._sessions.get(str(request.get("id")))
        return session if session is not None and session.spec.key == request.get("key") else None

    # -- sessions ----------------------------------------------------------------------------------

    def _create(self, request: dict[str, Any], connection: Connection) -> None:
        try:
            spec = decode_session(request.get("session"))
        except JobInvalid as e:
            connection.refuse(Refusal(400, e.message, e.code, e.param))
            return
        made = self._sessions.create(spec)
        if isinstance(made, Refusal):
            connection.refuse(made)
        else:
            connection.send({"session": made.facts() | {"isolation": made.isolation}})

    def _facts(self, request: dict[str, Any], connection: Connection) -> None:
        connection.send({"session": self._sessions.facts(str(request.get("id")))})

    def _list(self, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"sessions": [session.facts() for session in self._sessions.all()]})

    def _end(self, request: dict[str, Any], connection: Connection) -> None:
        session = self._find(request)
        reason: Any = request.get("reason")
        if reason not in ("deleted", "quota"):
            connection.refuse(Refusal(400, "reason: is not one of those agreed on", "invalid_value", "reason"))
            return
        facts = self._sessions.end(session.id, reason) if session is not None else None
        connection.send({"session": facts})

    # -- processes ---------------------------------------------------------------------------------

    def _start(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        session.touch()
        process = session.processes.start(_process_spec(request.get("process")))
        connection.send({"process": process.facts()})

    def _processes(self, session: LiveSession, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"processes": [process.facts() for process in session.processes.all()]})

    def _process(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        left_s = float(request.get("wait_s") or 0)
        with session.in_use():
            while left_s > 0 and not process.wait(min(left_s, FOLLOW_S)):
                left_s -= FOLLOW_S
                if connection.is_gone():
                    raise ConnectionError("nobody waits any more")
        facts = process.facts()
        if request.get("output"):
            facts |= _output(process)
        connection.send({"process": facts})

    def _events(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        after = request.get("after")
        if after == "now":
            after = process.last_seq
        if not isinstance(after, int) or after < 0:
            connection.refuse(Refusal(400, "after: must be an integer of at least 0", "invalid_value", "after"))
            return
        if process.dropped_bytes:
            connection.send({"event": "info", "seq": 0, "dropped_bytes": process.dropped_bytes, "t_ms": 0})
        with session.in_use():
            has_ended = False
            while not has_ended:
                chunks, has_ended = process.follow(after, FOLLOW_S)
                if chunks:
                    after = chunks[-1].seq
                    connection.send(
                        *[{"event": c.kind, "seq": c.seq, "data": _base64(c.data), "t_ms": c.t_ms} for c in chunks]
                    )
                elif not has_ended and connection.is_gone():
                    raise ConnectionError("nobody follows any more")
        connection.send({"process": process.facts()})

    def _signal(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        number = request.get("number")
        if not isinstance(number, int) or not 1 <= number <= 64:
            connection.refuse(Refusal(400, "signal: is none", "invalid_value", "signal"))
            return
        session.touch()
        process.channel.signal(number)
        connection.send({"process": process.facts()})

    def _kill(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is not None:
            session.touch()
            process.kill()
            process.wait(FOLLOW_S)
            connection.send({"process": process.facts()})

    def _stdin(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        pieces = connection.pieces()
        if process is None:
            _skip(pieces)
            return
        with session.in_use():
            for piece in pieces:
                if not process.channel.write_all(piece, STDIN_S):
                    raise ConnectionError("the process does not read its input")
        if request.get("close"):
            process.channel.end_input()
        connection.send({"process": process.facts()})

    def _process_of(
        self, session: LiveSession, request: dict[str, Any], connection: Connection
    ) -> SessionProcess | None:
        process = session.processes.find(str(request.get("p")))
        if process is None:
            connection.refuse(NO_PROCESS)
        return process

    # -- files -------------------------------------------------------------------------------------

    def _file(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        name = str(request.get("name"))
        arguments = [str(text).encode("latin-1") for text in request.get("args", ())]
        if name == "write":
            self._write(session, arguments, connection)
            return
        with session.in_use(), operation(session, name.encode(), *arguments) as doing:
            entry = Entry.parse(doing.report(whole=name not in ("read", "list"))).to_json()
            if name == "list":
                found = [item.to_json() for item in entries(doing.content())]
                connection.send({"entry": entry, "entries": found})
                return
            connection.send({"entry": entry})
            if name == "read":
                self._send_content(doing.content(), connection)

    def _write(self, session: LiveSession, arguments: list[bytes], connection: Connection) -> None:
        pieces = connection.pieces()
        try:
            with session.in_use(), operation(session, b"write", *arguments) as writing:
                writing.send(pieces)
                entry = Entry.parse(writing.report(whole=True)).to_json()
        except (FileRefused, SessionGone, ChannelEnded, TooManyChannels):
            _skip(pieces)
            raise
        connection.send({"entry": entry})

    @staticmethod
    def _send_content(content: Any, connection: Connection) -> None:  # noqa: ANN401  # an iterator of bytes
        """Send the content in pieces. When it is cut the connection is closed, without an empty piece."""
        try:
            for piece in content:
                connection.channel.send_piece(piece)
        except (FileRefused, ChannelEnded) as e:
            raise ConnectionError("the content was cut") from e
        connection.channel.send_piece(b"")


def _process_spec(data: object) -> ProcessSpec:
    """Return what to start. Api has checked it; a value of another type is a fault of this service's own."""
    if not isinstance(data, dict):
        raise TypeError("a process must be an object")
    timeout_ms = data.get("timeout_ms")
    return ProcessSpec(
        argv=tuple(map(str, data["argv"])),
        env={str(name): str(value) for name, value in data.get("env", {}).items()},
        cwd=str(data.get("cwd") or "/work"),
        tag=None if data.get("tag") is None else str(data["tag"]),
        timeout_ms=None if timeout_ms is None else int(timeout_ms),
    )


def _output(process: SessionProcess) -> dict[str, Any]:
    dropped = process.dropped_bytes > 0
    return {
        "stdout": _base64(process.output("stdout")),
        "stderr": _base64(process.output("stderr")),
        "truncated": dropped,
        "kept_bytes": LIVE_OUTPUT_BYTES,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _skip(pieces: Any) -> None:  # noqa: ANN401  # an iterator of bytes
    """Read the pieces that nobody wants, so that the next request can be read."""
    for _ in pieces:
        pass
