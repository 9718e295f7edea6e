"""The sessions of the worker of this host, over its Unix socket; the requests are listed in `worker.sessions`."""

from __future__ import annotations

import base64
import socket
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import orjson

from config.pieces import PIECE_BYTES
from config.turn import waiting
from dispatch import WorkerLost, WorkerUnavailable
from protocol.result import Refusal
from protocol.session import encode_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from protocol.session import SessionSpec

CONNECT_TIMEOUT_S = 2.0
#: What is answered at once; a session is created within it too, a cold container included.
ANSWER_S = 30.0
#: A piece of a file, of input or of output, and each line of events, comes within this.
PIECE_S = 60.0
LENGTH_BYTES = 4
MAX_PIECE_BYTES = 1024 * 1024
#: A list of 10 000 entries with long names.
MAX_LINE_BYTES = 256 * 1024 * 1024


class UnixSessions:
    """Reaches the sessions of the worker at a socket. Safe for many threads.

    Every method raises WorkerUnavailable or WorkerLost.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def create(self, spec: SessionSpec) -> dict[str, Any] | Refusal:
        """Create a session; its facts."""
        found: dict[str, Any] | Refusal = self._ask("session", {"do": "create", "session": encode_session(spec)})
        return found

    def facts(self, session_id: str) -> dict[str, Any] | None:
        """Return the facts of a session; None for one that the worker does not know."""
        found = self._ask("session", {"do": "facts", "id": session_id})
        return found if isinstance(found, dict) else None

    def end(self, session_id: str, key: str, reason: str) -> dict[str, Any] | None:
        """End a session; its facts, or None for one that the worker does not know."""
        found = self._ask("session", {"do": "end", "id": session_id, "key": key, "reason": reason})
        return found if isinstance(found, dict) else None

    def ask(self, do: str, session_id: str, key: str, answer: str, *, wait_s: float = 0, **fields: Any) -> Any:  # noqa: ANN401  # what `answer` holds
        """Ask something of a session; what stands in the answer's `answer`, or the Refusal."""
        request = {"do": do, "id": session_id, "key": key, **fields}
        if wait_s:
            request["wait_s"] = wait_s
        return self._ask(answer, request, ANSWER_S + wait_s)

    def events(
        self, session_id: str, key: str, process: str, after: int | str
    ) -> Iterator[dict[str, Any] | Refusal]:
        """Yield the output of a process as `{"event","seq","data" (bytes),"t_ms"}`, at last `{"process":{…}}`."""
        request = {"do": "events", "id": session_id, "key": key, "p": process, "after": after}
        with self._connected(PIECE_S) as connection:
            connection.send_line(request)
            while True:
                message = connection.line()
                if "refused" in message:
                    yield _refusal(message)
                    return
                if "data" in message:
                    message["data"] = base64.b64decode(message["data"])
                yield message
                if "process" in message:
                    return

    def write_input(
        self, session_id: str, key: str, process: str, pieces: Iterable[bytes], *, close: bool
    ) -> dict[str, Any] | Refusal:
        """Send input to a process, and with `close` its end; the process object."""
        request = {"do": "stdin", "id": session_id, "key": key, "p": process, "close": close}
        return self._send(request, pieces, "process")

    def write_file(
        self, session_id: str, key: str, arguments: list[bytes], pieces: Iterable[bytes]
    ) -> dict[str, Any] | Refusal:
        """Replace a file; its entry. What `pieces` raises cuts the file, which stays as it was."""
        return self._send(_file(session_id, key, "write", arguments), pieces, "entry")

    def operate(self, session_id: str, key: str, name: str, arguments: list[bytes]) -> dict[str, Any] | Refusal:
        """Do a file operation without content; `{"entry":{…}}`, for `list` also `entries`."""
        with self._connected(PIECE_S) as connection:
            connection.send_line(_file(session_id, key, name, arguments))
            message = connection.line()
        return _refusal(message) if "refused" in message else message

    @contextmanager
    def reading(
        self, session_id: str, key: str, arguments: list[bytes]
    ) -> Iterator[tuple[dict[str, Any], Iterator[bytes]] | Refusal]:
        """Open a file: its entry, and its pieces, which must be taken before the context ends or not at all."""
        with self._connected(PIECE_S) as connection:
            connection.send_line(_file(session_id, key, "read", arguments))
            message = connection.line()
            if "refused" in message:
                yield _refusal(message)
            else:
                yield message["entry"], connection.pieces()

    # -- exchanges ---------------------------------------------------------------------------------

    def _ask(self, answer: str, request: dict[str, Any], allowed_s: float = ANSWER_S) -> Any:  # noqa: ANN401
        with self._connected(allowed_s) as connection:
            connection.send_line(request)
            message = connection.line()
        return _refusal(message) if "refused" in message else message.get(answer)

    def _send(self, request: dict[str, Any], pieces: Iterable[bytes], answer: str) -> dict[str, Any] | Refusal:
        with self._connected(PIECE_S) as connection:
            connection.send_line(request)
            for piece in pieces:
                connection.send_piece(piece)
            connection.send_piece(b"")
            message = connection.line()
        if "refused" in message:
            return _refusal(message)
        found: dict[str, Any] = message[answer]
        return found

    @contextmanager
    def _connected(self, allowed_s: float) -> Iterator[_SessionConnection]:
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(self._path)
        except OSError as e:
            raise WorkerUnavailable("no worker listens") from e
        sock.settimeout(allowed_s)
        try:
            yield _SessionConnection(sock)
        except OSError as e:
            raise WorkerLost("the worker went away") from e
        finally:
            # Its end without an answer means that nobody waits any more.
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            sock.close()


class _SessionConnection:
    """One connection: lines of JSON, and pieces of bytes with their length in front."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def send_line(self, request: dict[str, Any]) -> None:
        self._sock.sendall(orjson.dumps({"op": "session", **request}, option=orjson.OPT_APPEND_NEWLINE))

    def send_piece(self, data: bytes) -> None:
        with waiting():
            for at in range(0, len(data) or 1, MAX_PIECE_BYTES):
                piece = data[at : at + MAX_PIECE_BYTES]
                self._sock.sendall(len(piece).to_bytes(LENGTH_BYTES, "big") + piece)

    def line(self) -> dict[str, Any]:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise WorkerLost("the answer is too long")
            self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = orjson.loads(line)
        except ValueError as e:
            raise WorkerLost("the answer is not JSON") from e
        if not isinstance(message, dict):
            raise WorkerLost("the answer is not an object")
        return message

    def pieces(self) -> Iterator[bytes]:
        while size := int.from_bytes(self._exactly(LENGTH_BYTES), "big"):
            yield self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _receive(self) -> None:
        with waiting():
            data = self._sock.recv(PIECE_BYTES)
        if not data:
            raise WorkerLost("the connection was closed")
        self._buffer += data


def _file(session_id: str, key: str, name: str, arguments: list[bytes]) -> dict[str, Any]:
    texts = [argument.decode("latin-1") for argument in arguments]
    return {"do": "file", "id": session_id, "key": key, "name": name, "args": texts}


def _refusal(message: dict[str, Any]) -> Refusal:
    try:
        return Refusal(**message["refused"])
    except TypeError as e:
        raise WorkerLost("the worker's refusal is not readable") from e
