"""The sessions of workers, over connections of any kind; the requests are listed in `worker.sessions`."""

from __future__ import annotations

import base64
import socket
import struct
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dispatch import WorkerLost, WorkerUnavailable
from dispatch.session_connection import SessionConnection
from dispatch.source import NOTHING_YET
from dispatch.worker_client import DEFAULT_PACKAGES_S
from protocol.codec import encode_inputs
from protocol.result import Refusal
from protocol.session import encode_session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from dispatch.source import MessageSource
    from protocol.job import JobInput
    from protocol.session import SessionSpec

CONNECT_TIMEOUT_S = 2.0
#: Seconds for an answer that needs no wait; a session is created within it too, a cold container included.
ANSWER_S = 30.0
#: A piece of a file, of input or of output, and each line of events, comes within this.
PIECE_S = 60.0
#: All stored files of a new session, each of which the sandbox takes within its own time.
PLACE_S = 600.0


class ProcessConnection(NamedTuple):
    """A connection to the worker that carries frames (`protocol.attach`), and what it is attached to."""

    sock: socket.socket
    key: str
    has_terminal: bool


class WorkerSessions:
    """Reaches sessions, and the input of live runs. Safe for many threads.

    Every method raises WorkerUnavailable or WorkerLost.
    """

    def __init__(
        self, connect: Callable[[dict[str, Any]], socket.socket], *, packages_timeout_s: float = DEFAULT_PACKAGES_S
    ) -> None:
        """`connect` returns a socket to the worker that a request is for. Raises WorkerUnavailable or OSError.

        `packages_timeout_s` is what a session that asks for packages may wait for them.
        """
        self._connect = connect
        self._packages_timeout_s = packages_timeout_s

    def create(self, spec: SessionSpec) -> Iterator[str | dict[str, Any] | Refusal]:
        """Create a session: yields the output of the tool that makes its packages, at last its facts."""
        allowed_s = ANSWER_S + (self._packages_timeout_s if spec.packages else 0)
        request = {"do": "create", "session": encode_session(spec)}
        with self._connected(request, allowed_s) as connection:
            while "event" in (message := connection.line()):
                yield str(message.get("output"))
            yield _refusal(message) if "refused" in message else message["session"]

    def facts(self, session_id: str) -> dict[str, Any] | None:
        """Return the facts of a session; None for one that the worker does not know."""
        found = self._ask("session", {"do": "facts", "id": session_id})
        return found if isinstance(found, dict) else None

    def all_facts(self) -> list[dict[str, Any]]:
        """Return the facts of all sessions that live."""
        return list(self._ask("sessions", {"do": "list"}))

    def end(self, session_id: str, key: str, reason: str) -> dict[str, Any] | None:
        """End a session; its facts, or None for one that the worker does not know."""
        found = self._ask("session", {"do": "end", "id": session_id, "key": key, "reason": reason})
        return found if isinstance(found, dict) else None

    def ask(
        self,
        do: str,
        session_id: str,
        key: str,
        answer: str,
        *,
        wait_s: float = 0,
        client_fd: int | None = None,
        **fields: Any,  # noqa: ANN401  # JSON
    ) -> Any:  # noqa: ANN401  # what `answer` holds
        """Ask something of a session; what stands in the answer's `answer`, or the Refusal.

        Raises ClientGone when the peer of `client_fd` goes away before the answer.
        """
        request = {"do": do, "id": session_id, "key": key, **fields}
        if wait_s:
            request["wait_s"] = wait_s
        return self._ask(answer, request, ANSWER_S + wait_s, client_fd)

    def asking(
        self,
        do: str,
        session_id: str,
        key: str,
        answer: str,
        *,
        wait_s: float,
        client_fd: int | None,
        source: MessageSource,
        **fields: Any,  # noqa: ANN401  # JSON
    ) -> Generator[Any, None, None]:
        """Ask as `ask` does: yield NOTHING_YET when that has been sent, and then the answer."""
        request = {"do": do, "id": session_id, "key": key, "wait_s": wait_s, **fields}
        allowed_s = ANSWER_S + wait_s
        with self._connected(request, allowed_s, client_fd) as connection, source.reading(connection, allowed_s):
            yield NOTHING_YET
            message = connection.line()
        yield _refusal(message) if "refused" in message else message.get(answer)

    def events(
        self,
        session_id: str,
        key: str,
        process: str,
        after: int | str,
        *,
        client_fd: int | None = None,
        kill_if_gone: bool = False,
        announce: bool = False,
        source: MessageSource | None = None,
    ) -> Iterator[dict[str, Any] | Refusal]:
        """Yield the output of a process as `{"event","seq","data" (bytes),"t_ms"}`, at last `{"process":{…}}`.

        With `announce` an `info` with the process comes first. Raises ClientGone when the peer of `client_fd` goes
        away; with `kill_if_gone` that kills the process. `source` tells where the next event comes from; with it
        NOTHING_YET is yielded first, unless the worker refuses.
        """
        request = {"do": "events", "id": session_id, "key": key, "p": process, "after": after}
        if kill_if_gone:
            request["kill_if_gone"] = True
        if announce:
            request["announce"] = True
        if source is not None:
            request["confirm"] = True
        with self._connected(request, PIECE_S, client_fd) as connection, _reading(source, connection):
            while "event" in (message := connection.line()) or "following" in message:
                if "following" in message:
                    yield NOTHING_YET
                    continue
                if "data" in message:
                    message["data"] = base64.b64decode(message["data"])
                yield message
        # Behind the connection: nothing is waited for any more.
        yield _refusal(message) if "refused" in message else message

    def attach(
        self, session_id: str, process: str, after: int | str, *, key: str | None = None, ticket: str | None = None
    ) -> ProcessConnection | Refusal:
        """Attach to a process, by a key's id or by a ticket."""
        request: dict[str, Any] = {"do": "attach", "id": session_id, "p": process, "after": after}
        request |= {"key": key} if ticket is None else {"ticket": ticket}
        with self._connected(request, ANSWER_S) as connection:
            message = connection.line(alone=True)
            if "refused" in message:
                return _refusal(message)
            said = message["attached"]
            return ProcessConnection(connection.detach(), str(said["key"]), bool(said["has_terminal"]))

    def write_input(
        self, session_id: str, key: str, process: str, pieces: Iterable[bytes], *, close: bool
    ) -> dict[str, Any] | Refusal:
        """Send input to a process, and with `close` its end; the process object."""
        request = {"do": "stdin", "id": session_id, "key": key, "p": process, "close": close}
        return self._send(request, pieces, "process")

    def write_run_input(self, run_id: str, pieces: Iterable[bytes], *, close: bool) -> bool | Refusal:
        """Send input to a live run, and with `close` its end; False if it takes none."""
        request = {"op": "run_stdin", "run_id": run_id, "close": close}
        found = self._send(request, pieces, "input")
        return found if isinstance(found, Refusal) else bool(found["taken"])

    def signal_run(self, run_id: str, number: int) -> bool | Refusal:
        """Send a signal to the main process of a live run; False if it takes none."""
        found = self._ask("input", {"op": "run_signal", "run_id": run_id, "number": number})
        return found if isinstance(found, Refusal) else bool(found["taken"])

    def send_file(
        self, session_id: str, key: str, name: str, arguments: list[bytes], pieces: Iterable[bytes]
    ) -> dict[str, Any] | Refusal:
        """Do a file operation that takes content (`write`, `unpack`); its entry.

        An exception of `pieces` cuts it, so that a file stays as it was. Not all is taken of them after a refusal.
        """
        return self._send(_file(session_id, key, name, arguments), pieces, "entry")

    def write_file(
        self, session_id: str, key: str, arguments: list[bytes], pieces: Iterable[bytes]
    ) -> dict[str, Any] | Refusal:
        """Replace a file; its entry."""
        return self.send_file(session_id, key, "write", arguments, pieces)

    def watch(
        self,
        session_id: str,
        key: str,
        path: bytes,
        *,
        recursive: bool,
        client_fd: int | None = None,
        source: MessageSource | None = None,
    ) -> Generator[dict[str, Any] | Refusal, None, None]:
        """Yield `{"watching":{}}`, then the changes of a directory as `{"event","seq","path","to"}`.

        `{"alive":true}` comes now and then. `source` tells where the next message comes from. Raises ClientGone
        when the peer of `client_fd` goes away.
        """
        fields = {"path": path.decode("latin-1"), "recursive": recursive}
        request = {"do": "watch", "id": session_id, "key": key, **fields}
        with self._connected(request, PIECE_S, client_fd) as connection, _reading(source, connection):
            while "watched" not in (message := connection.line()):
                if "refused" in message:
                    yield _refusal(message)
                    return
                yield message

    def place(self, session_id: str, key: str, inputs: Iterable[JobInput]) -> Refusal | None:
        """Write stored files into a session."""
        request = {"do": "place", "id": session_id, "key": key, "inputs": encode_inputs(inputs)}
        found = self._ask("placed", request, PLACE_S)
        return found if isinstance(found, Refusal) else None

    def operate(self, session_id: str, key: str, name: str, arguments: list[bytes]) -> dict[str, Any] | Refusal:
        """Do a file operation without content; `{"entry":{…}}`, for `list` also `entries`."""
        with self._connected(_file(session_id, key, name, arguments), PIECE_S) as connection:
            message = connection.line()
        return _refusal(message) if "refused" in message else message

    @contextmanager
    def reading(
        self, session_id: str, key: str, name: str, arguments: list[bytes]
    ) -> Iterator[tuple[dict[str, Any], Iterator[bytes]] | Refusal]:
        """Begin a file operation that gives content (`read`, `pack`): its entry, and its pieces.

        They must be taken before the context ends or not at all.
        """
        with self._connected(_file(session_id, key, name, arguments), PIECE_S) as connection:
            message = connection.line()
            if "refused" in message:
                yield _refusal(message)
            else:
                yield message["entry"], connection.pieces()

    # -- exchanges ---------------------------------------------------------------------------------

    def _ask(
        self, answer: str, request: dict[str, Any], allowed_s: float = ANSWER_S, client_fd: int | None = None
    ) -> Any:  # noqa: ANN401
        with self._connected(request, allowed_s, client_fd) as connection:
            message = connection.line()
        return _refusal(message) if "refused" in message else message.get(answer)

    def _send(self, request: dict[str, Any], pieces: Iterable[bytes], answer: str) -> dict[str, Any] | Refusal:
        with self._connected(request, PIECE_S) as connection:
            for piece in pieces:
                if connection.is_answered():
                    break
                connection.send_piece(piece)
            else:
                connection.send_piece(b"")
            message = connection.line()
        if "refused" in message:
            return _refusal(message)
        found: dict[str, Any] = message[answer]
        return found

    @contextmanager
    def _connected(
        self, request: dict[str, Any], allowed_s: float, client_fd: int | None = None
    ) -> Iterator[SessionConnection]:
        """Return a connection on which the request was sent."""
        try:
            sock = self._connect(request)
        except OSError as e:
            raise WorkerUnavailable("no worker listens") from e
        sock.settimeout(allowed_s)
        try:
            connection = SessionConnection(sock, allowed_s, client_fd)
            connection.send_line(request)
            yield connection
        except OSError as e:
            raise WorkerLost("the worker went away") from e
        finally:
            if sock.fileno() >= 0:  # else it was detached
                # Its end without an answer means that nobody waits any more.
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
                sock.close()


class UnixSessions(WorkerSessions):
    """Reaches the sessions of the worker at a Unix socket."""

    def __init__(self, path: Path, *, packages_timeout_s: float = DEFAULT_PACKAGES_S) -> None:
        super().__init__(self._open, packages_timeout_s=packages_timeout_s)
        self._path = str(path)

    def _open(self, _request: dict[str, Any]) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        return sock


def _reading(source: MessageSource | None, connection: SessionConnection) -> AbstractContextManager[None]:
    return nullcontext() if source is None else source.reading(connection, PIECE_S)


def _file(session_id: str, key: str, name: str, arguments: list[bytes]) -> dict[str, Any]:
    texts = [argument.decode("latin-1") for argument in arguments]
    return {"do": "file", "id": session_id, "key": key, "name": name, "args": texts}


def _refusal(message: dict[str, Any]) -> Refusal:
    try:
        return Refusal(**message["refused"])
    except TypeError as e:
        raise WorkerLost("the worker's refusal is not readable") from e
