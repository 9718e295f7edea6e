"""Handle the requests about sessions at the worker's socket: `{"op":"session","do":D,"id":S,"key":K,…}`.

`id` and `key` name a session and whose it is; another key's is unknown. A request that cannot be carried out is
answered by `{"refused":{…}}`, as everywhere.

`create`, `session`: `{"session":{…}}`, the facts of the new session; for one with packages
    `{"event":"info","output":line}` lines before it, while they are made ready.
`facts`, `end`: `{"session":{…}}`, or `{"session":null}`; `end` has a `reason`.
`list`: `{"sessions":[{…},…]}`: of all keys.
`change`, `change` (what is to change); `pause`; `resume`: `{"session":{…}}`.
`start`, `process` (`argv env cwd tag timeout_ms pty keep_awake`): `{"process":{…}}`.
`processes`: `{"processes":[{…},…]}`.
    With `confirm` of `events` `{"following":{}}` comes first.
    With `announce` they begin with `{"event":"info","process":{…},"dropped_bytes":N,…}`.
    With `kill_if_gone`, `process` and `events` kill the process when their client hangs up before its end.
`process`, `p`, `wait_s`: `{"process":{…}}` when it has ended, or that time is over; with `output` also
    `stdout stderr stdout_truncated stderr_truncated`, as base64.
`events`, `p`, `after`: lines `{"event":kind,"seq":…,"data":base64,"t_ms":…}`, then `{"process":{…}}` at its end.
`signal`, `p`, `number`; `kill`, `p`; `resize`, `p`, `cols`, `rows`: `{"process":{…}}`.
`ticket`, `attach`: see `worker.attaching`.
`stdin`, `p`, `close`, and then pieces: `{"process":{…}}`.
`watch`, `watcher`, `watcher_events`, `unwatch`: see `worker.session_watches`.
`place` (`inputs`, as of a job): `{"placed":{}}` when they have been written.
`file`, `name`, `args` (bytes, as text of one character for each), for `write` and `unpack` then pieces:
    `{"entry":{…}}`; a refusal may come before all pieces have been sent, and the connection has then to be closed.
    For `read` and `pack` `{"entry":{…}}` and then pieces, the empty one at the end; for `list`
    `{"entry":{…},"entries":[{…},…]}`.
"""

from __future__ import annotations

import base64
import logging
import time
from typing import TYPE_CHECKING, Any

from protocol.codec import decode_inputs
from protocol.limits import JobInvalid
from protocol.result import Refusal
from protocol.session import MAX_TERMINAL_CELLS, MOST_TERMINALS, TerminalSize, decode_session
from sandbox.frames import ProtocolError
from sandbox.sessions.channel import ChannelEnded
from sandbox.sessions.files import Entry, FileRefused, entries, operation
from sandbox.sessions.memory import NoMemory
from sandbox.sessions.processes import LIVE_OUTPUT_BYTES, ProcessSpec, SessionProcess, TooManyTerminals
from sandbox.sessions.runs import NO_MEMORY, PAUSED
from sandbox.sessions.session import SessionGone, SessionPaused
from sandbox.sessions.stream import TooManyChannels
from storage.errors import StorageError, StorageUnavailable
from worker import session_watches
from worker.attaching import AttachHandlers
from worker.session_contexts import ContextHandlers
from worker.session_life import LifeHandlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.languages import Catalogue
    from sandbox.sessions.runs import SessionExecutor
    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.table import SessionTable
    from worker.handlers import Connection
    from worker.runs import RunTable

log = logging.getLogger(__name__)

#: A follower of a silent process is looked after this often: whether its connection is still there.
FOLLOW_S = 5.0
#: The same where its process is to be killed if it is gone.
GONE_S = 0.5
#: A process has a number after a few milliseconds, unless its session is overloaded.
PID_S = 1.0
#: Seconds after which input that a process does not take is given up.
STDIN_S = 60.0
ENDED = Refusal(410, "this session has ended", "session_ended")
NOT_A_TERMINAL = Refusal(409, "this process has no terminal: it was started without pty", "not_a_terminal", "pty")
NO_PROCESS = Refusal(404, "there is no such process in this session", "process_not_found")
NO_TERMINAL = Refusal(409, f"this session has {MOST_TERMINALS} terminals in use", "session_busy", "pty")
FULL = Refusal(409, "this session has all the processes that it may", "session_busy")
#: The file operations that content is sent to, and those that it comes from.
SENT, FETCHED = ("write", "unpack"), ("read", "pack")
#: The status of what a file operation may be refused for.
STATUSES = {
    "file_not_found": 404,
    "file_not_permitted": 403,
    "not_a_directory": 409,
    "not_a_file": 409,
    "file_exists": 409,
    "disk_full": 507,
    "invalid_path": 400,
    "invalid_archive": 400,
    "incomplete_body": 400,
    "io_error": 500,
}


class SessionHandlers:
    """Answers the requests about the sessions of one worker."""

    def __init__(
        self, sessions: SessionTable, runs: RunTable, executor: SessionExecutor, catalogue: Catalogue
    ) -> None:
        self._sessions = sessions
        self._attaching = AttachHandlers(sessions)
        self._executor = executor
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
            "attach": self._attaching.attach,
        }
        life = LifeHandlers(sessions)
        self._inside: dict[str, Callable[[LiveSession, dict[str, Any], Connection], None]] = {
            "start": self._start,
            "processes": self._processes,
            "process": self._process,
            "events": self._events,
            "signal": self._signal,
            "kill": self._kill,
            "resize": self._resize,
            "ticket": self._attaching.ticket,
            "stdin": self._stdin,
            "file": self._file,
            "place": self._place,
            **session_watches.handlers(),
            **life.operations,
            **ContextHandlers(catalogue).operations,
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
        except (FileRefused, SessionGone, ChannelEnded, TooManyChannels, TooManyTerminals) as e:
            connection.refuse(_refusal_of(e))
        except (SessionPaused, NoMemory) as e:
            if do == "stdin" or (do == "file" and request.get("name") in SENT):
                _skip(connection.pieces())
            connection.refuse(PAUSED if isinstance(e, SessionPaused) else NO_MEMORY)
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

        def told(line: str) -> None:
            connection.send({"event": "info", "output": line})

        made = self._sessions.create(spec, on_output=told, is_wanted=lambda: not connection.is_gone())
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
        if reason not in ("deleted", "quota", "killed"):
            connection.refuse(Refusal(400, "reason: is not one of those agreed on", "invalid_value", "reason"))
            return
        facts = self._sessions.end(session.id, reason) if session is not None else None
        if facts is None and self._sessions.abandon(str(request.get("id")), str(request.get("key"))):
            facts = {"status": "ended", "end_reason": reason}
        connection.send({"session": facts})

    # -- processes ---------------------------------------------------------------------------------

    def _start(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        with session.in_use():
            process = session.processes.start(_process_spec(request.get("process")))
        connection.send({"process": process.facts()})

    def _processes(self, session: LiveSession, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"processes": [process.facts() for process in session.processes.all()]})

    def _process(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        left_s = float(request.get("wait_s") or 0)
        if left_s > 0 and process.is_alive:
            with session.in_use(waits=True):
                _await(process, left_s, request, connection)
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
        if request.get("confirm"):
            connection.send({"following": {}})
        if request.get("announce"):  # of a process that this client has started
            with session.in_use(waits=True):
                _follow(process, after, request, connection)
        else:
            _follow(process, after, request, connection)
        connection.send({"process": process.facts()})

    def _resize(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        size = _terminal(request)
        if process.spec.terminal is None or size is None:
            connection.refuse(NOT_A_TERMINAL)
            return
        with session.in_use():
            process.channel.resize(size)
        connection.send({"process": process.facts()})

    def _signal(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is None:
            return
        number = request.get("number")
        if not isinstance(number, int) or not 1 <= number <= 64:
            connection.refuse(Refusal(400, "signal: is none", "invalid_value", "signal"))
            return
        with session.in_use():
            process.channel.signal(number)
        connection.send({"process": process.facts()})

    def _kill(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        process = self._process_of(session, request, connection)
        if process is not None:
            with session.in_use():
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
        if name in SENT:
            self._write(session, name, arguments, connection)
            return
        with session.in_use(), operation(session, name.encode(), *arguments) as doing:
            entry = Entry.parse(doing.report(whole=name not in FETCHED and name != "list")).to_json()
            if name == "list":
                found = [item.to_json() for item in entries(doing.content())]
                connection.send({"entry": entry, "entries": found})
                return
            connection.send({"entry": entry})
            if name in FETCHED:
                self._send_content(doing.content(), connection)

    def _place(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        try:
            self._executor.place(session, decode_inputs(request.get("inputs")))
        except JobInvalid as e:
            connection.refuse(Refusal(400, e.message, e.code, e.param))
        except StorageUnavailable as e:
            log.warning("a file cannot be read: %s", e, extra={"cause": repr(e.__cause__)})
            connection.refuse(Refusal(503, "the storage is unavailable", "storage_unavailable", None, 5))
        except StorageError as e:
            log.warning("a file is not what was stored: %s", e)
            connection.refuse(Refusal(500, "files: the bytes of one are lost or damaged", "file_damaged", "files"))
        else:
            connection.send({"placed": {}})

    def _write(self, session: LiveSession, name: str, arguments: list[bytes], connection: Connection) -> None:
        pieces = connection.pieces()
        try:
            with session.in_use(), operation(session, name.encode(), *arguments) as writing:
                writing.send(pieces)
                entry = Entry.parse(writing.report(whole=True)).to_json()
        except (FileRefused, SessionGone, ChannelEnded, TooManyChannels) as e:
            # At once, so that no more is sent of what is not wanted.
            connection.refuse(_refusal_of(e))
            _skip(pieces)
        else:
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


def _refusal_of(
    error: FileRefused | SessionGone | ChannelEnded | TooManyChannels | TooManyTerminals,
) -> Refusal:
    """Return what is answered to a call that could not be done in its session."""
    if isinstance(error, FileRefused):
        return Refusal(STATUSES[error.code], error.message, error.code, "path")
    if isinstance(error, TooManyTerminals):
        return NO_TERMINAL
    return FULL if isinstance(error, TooManyChannels) else ENDED


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
        terminal=_terminal(data.get("pty")),
        keep_awake=bool(data.get("keep_awake")),
    )


def _terminal(data: object) -> TerminalSize | None:
    """Return the size of a terminal, None for what is none."""
    if not isinstance(data, dict):
        return None
    size = TerminalSize(int(data["cols"]), int(data["rows"]))
    return size if all(1 <= number <= MAX_TERMINAL_CELLS for number in size) else None


def _await(process: SessionProcess, left_s: float, request: dict[str, Any], connection: Connection) -> None:
    """Wait for the end of a process. Raises ConnectionError when nobody else does any more."""
    until = time.monotonic() + left_s
    look_s = GONE_S if request.get("kill_if_gone") else FOLLOW_S
    while (left_s := until - time.monotonic()) > 0 and not process.wait(min(left_s, look_s)):
        _check_there(process, request, connection)


def _follow(process: SessionProcess, after: int, request: dict[str, Any], connection: Connection) -> None:
    """Send the output of a process, to its end. Raises ConnectionError when nobody follows any more."""
    look_s = GONE_S if request.get("kill_if_gone") else FOLLOW_S
    if process.dropped_bytes or request.get("announce"):
        info = {"event": "info", "seq": 0, "dropped_bytes": process.dropped_bytes, "t_ms": 0}
        if request.get("announce"):
            process.wait_for_pid(PID_S)
            info["process"] = process.facts()
        connection.send(info)
    alive_at = time.monotonic()
    has_ended = False
    while not has_ended:
        chunks, has_ended = process.follow(after, look_s)
        if chunks:
            after = chunks[-1].seq
            connection.send(
                *[{"event": c.kind, "seq": c.seq, "data": _base64(c.data), "t_ms": c.t_ms} for c in chunks]
            )
            alive_at = time.monotonic()
        elif not has_ended:
            _check_there(process, request, connection)
            if time.monotonic() - alive_at >= FOLLOW_S:
                connection.send({"event": "keepalive", "seq": after, "t_ms": process.age_ms})
                alive_at = time.monotonic()


def _check_there(process: SessionProcess, request: dict[str, Any], connection: Connection) -> None:
    """Raise ConnectionError if nobody waits any more, after killing what was not to outlive its client."""
    if connection.is_gone():
        if request.get("kill_if_gone"):
            process.kill()
        raise ConnectionError("nobody waits any more")


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
