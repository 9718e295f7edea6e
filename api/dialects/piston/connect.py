"""`/api/v2/connect`: Piston's WebSocket, by which a client writes to a program while it runs.

The thread of the request passes the run's events on until the run has ended, which its limits bound; a second one
reads what the client sends. Both are in a reader's place.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response, request

from api.context import context
from api.dialects.caller import require_dialect_caller
from api.dialects.execution import execute_live, require_room
from api.dialects.piston.answers import compile_exit, run_exit
from api.dialects.piston.translate import parse_execute
from api.errors import ApiError
from api.http.body import parse_object
from api.http.signals import signal_number
from api.http.takeover import take_over
from api.runs.live_input import ClientLeft, send_signal, write_input
from api.websockets import upgrade
from api.websockets.wire import Wire
from config.pieces import PIECE_BYTES
from config.turn import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.context import Context
    from api.dialects.piston.runtimes import LanguageRuntime
    from api.dialects.piston.translate import ExecuteRequest
    from api.keys.authentication import Caller
    from api.runs.events import Message

log = logging.getLogger(__name__)

#: Piston's close codes.
ALREADY_INITIALIZED, INITIALIZATION_TIMEOUT, NOTIFIED_ERROR, NOT_YET_INITIALIZED = 4000, 4001, 4002, 4003
ONLY_STDIN, INVALID_SIGNAL, JOB_COMPLETED = 4004, 4005, 4999
#: From the upgrade a client has this long to say what it wants.
INIT_S = 1.0
#: Seconds after which a client that takes nothing is left.
SEND_S = 30.0
#: A message, the one with the program among them.
MOST_TEXT = 2 * 1024 * 1024
#: Seconds that the WebSocket waits after its end for the client to agree.
CLOSING_S = 1.0


def connect(find: Callable[[str, str], LanguageRuntime | None]) -> Response:
    """Serve a WebSocket from its upgrade to its end; `find` returns the runtime that a client names."""
    upgrade.check(request)
    caller = require_dialect_caller()
    require_room()
    with ExitStack() as held:
        held.callback(context().places.readers.acquire(caller.id))
        sock, pending = take_over(request)
        held.callback(sock.close)
        sock.settimeout(SEND_S)
        with suppress(OSError, ClientLeft):
            sock.sendall(upgrade.accept(request))
            _InteractiveRun(sock, context(), caller).serve(pending, find)
    return Response(status=101)


class _Refused(Exception):
    """The WebSocket is closed with a code for what the client has done."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _InteractiveRun:
    """One client. `_lock` is held by each user of the wire, and while sending."""

    def __init__(self, sock: socket.socket, found: Context, caller: Caller) -> None:
        self._sock = sock
        self._found = found
        self._caller = caller
        self._lock = threading.Lock()
        self._wire = Wire(most_text=MOST_TEXT, most_bytes=0)
        #: The run's id, once its program may be written to.
        self._run_id: str | None = None
        self._has_run = threading.Event()
        self._is_over = False

    def serve(self, pending: bytes, find: Callable[[str, str], LanguageRuntime | None]) -> None:
        """Wait for what to run, run it, and tell the client of it. Raises OSError, ClientLeft."""
        reader = threading.Thread()
        try:
            message, rest = self._first(pending)
            asked = parse_execute(_initialized(message), find, self._caller.plan)
            fields = asked.fields | {"stdin": str(message.get("stdin") or ""), "stdin_open": True}
            execution = execute_live(fields, self._caller, self._sock.fileno())
            try:
                with closing(execution.events) as events:
                    self._say(type="runtime", language=asked.runtime.language, version=str(asked.runtime.version))
                    reader = threading.Thread(target=self._read_on, args=(rest,), daemon=True, name="connect")
                    reader.start()
                    self._pass_on(asked, events)
            finally:
                execution.release()
        except _Refused as e:
            self._close(e.code, str(e))
        except ApiError as e:
            self._say(type="error", message=e.error.message)
            self._close(NOTIFIED_ERROR, "Notified Error")
        finally:
            self._finish(reader)

    # -- from the client ---------------------------------------------------------------------------

    def _first(self, pending: bytes) -> tuple[dict[str, Any], list[str | bytes]]:
        """Return the first message, and those that came with it. Raises _Refused, ClientLeft."""
        deadline = time.monotonic() + INIT_S
        found = self._taken(pending) if pending else []
        while not found:
            if self._wire.is_closing:
                raise ClientLeft
            self._sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                with waiting():
                    data = self._sock.recv(PIECE_BYTES)
            except TimeoutError as e:
                raise _Refused(INITIALIZATION_TIMEOUT, "Initialization Timeout") from e
            if not data:
                raise ClientLeft
            found = self._taken(data)
        self._sock.settimeout(SEND_S)
        first = found[0]
        if not isinstance(first, str):
            raise _Refused(NOT_YET_INITIALIZED, "Not yet initialized")
        return parse_object(first.encode()), found[1:]

    def _read_on(self, messages: list[str | bytes]) -> None:
        """Handle what the client has sent and sends, on a thread of its own, until the end of either."""
        try:
            self._handle_all(messages)
            while not self._is_over:
                try:
                    data = self._sock.recv(PIECE_BYTES)
                except TimeoutError:
                    continue
                if not data:
                    return
                self._handle_all(self._taken(data))
                if self._wire.is_closed:
                    break
        except _Refused as e:
            self._close(e.code, str(e))
        except (OSError, ApiError):
            log.debug("a client of piston's connect has gone, or its worker")
        finally:
            if not self._is_over:  # its run is cancelled by that
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)

    def _taken(self, data: bytes) -> list[str | bytes]:
        with self._lock:
            found = self._wire.receive(data)
            self._flush()
        return found

    def _handle_all(self, messages: list[str | bytes]) -> None:
        for message in messages:
            self._handle(message)

    def _handle(self, message: str | bytes) -> None:
        """Do what a message says. Raises _Refused."""
        try:
            said = parse_object(message.encode() if isinstance(message, str) else message)
        except ApiError as e:
            raise _Refused(NOTIFIED_ERROR, e.error.message) from e
        kind = said.get("type")
        if kind == "init":
            raise _Refused(ALREADY_INITIALIZED, "Already Initialized")
        if kind == "data":
            data = said.get("data")
            if said.get("stream") != "stdin" or not isinstance(data, str):
                raise _Refused(ONLY_STDIN, "Can only write to stdin")
            self._ask(lambda run_id: write_input(self._found, run_id, data.encode()))
        elif kind == "signal":
            try:
                number = signal_number({"signal": said.get("signal")})
            except ApiError as e:
                raise _Refused(INVALID_SIGNAL, "Invalid signal") from e
            self._ask(lambda run_id: send_signal(self._found, run_id, number))

    def _ask(self, call: Callable[[str], object]) -> None:
        """Ask something of the run, once it has begun; of one that has ended nothing is asked."""
        while not self._has_run.wait(0.5):
            if self._is_over:
                return
        if self._run_id is not None:
            call(self._run_id)

    # -- to the client -----------------------------------------------------------------------------

    def _pass_on(self, asked: ExecuteRequest, events: Iterator[Message]) -> None:
        stage = None
        for event in events:
            kind, data = event["event"], event["data"]
            if kind == "info":
                self._run_id = data["id"]
                if data["status"] == "running":
                    self._has_run.set()
            elif kind == "phase":
                if stage == "compile":
                    self._say(type="exit", stage=stage, error=None, code=0, signal=None)
                stage = data["name"]
                self._has_run.set()
                self._say(type="stage", stage=stage)
            elif kind in ("stdout", "stderr"):
                self._say(type="data", stream=kind, data=data)
            elif kind == "result":
                self._exited(asked, _plain(data))
            elif kind == "error":
                self._say(type="error", message=_plain(data)["message"])
                self._close(NOTIFIED_ERROR, "Notified Error")

    def _exited(self, asked: ExecuteRequest, run: dict[str, Any]) -> None:
        stage, (code, signal) = "run", run_exit(run)
        if run["compile"] is not None and run["compile"]["exit_code"] != 0:
            stage, (code, signal) = "compile", compile_exit(asked, run)
            for stream in ("stdout", "stderr"):
                if run["compile"][stream]:
                    self._say(type="data", stream=stream, data=run["compile"][stream])
        self._say(type="exit", stage=stage, error=None, code=code, signal=signal)
        self._close(JOB_COMPLETED, "Job Completed")

    def _say(self, **message: object) -> None:
        with self._lock:
            self._wire.send_text(json.dumps(message))
            self._flush()

    def _close(self, code: int, reason: str) -> None:
        with self._lock, suppress(OSError):
            self._wire.close(code, reason)
            self._flush()

    def _flush(self) -> None:
        data, self._wire.outgoing = bytes(self._wire.outgoing), bytearray()
        if data:
            with waiting():
                self._sock.sendall(data)

    def _finish(self, reader: threading.Thread) -> None:
        """Give the client a moment to agree to the end, and end the reader."""
        deadline = time.monotonic() + CLOSING_S
        if reader.ident is not None:
            with waiting():
                reader.join(CLOSING_S)
        else:
            with suppress(OSError):
                while not self._wire.is_closed and (left := deadline - time.monotonic()) > 0:
                    self._sock.settimeout(left)
                    with waiting():
                        data = self._sock.recv(PIECE_BYTES)
                    if not data:
                        break
                    self._taken(data)
        self._is_over = True
        self._has_run.set()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if reader.ident is not None:
            reader.join(CLOSING_S)


def _plain(data: object) -> dict[str, Any]:
    """Return the data of a last event, which is JSON that was written already."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(data))
    return found


def _initialized(message: dict[str, Any]) -> dict[str, Any]:
    """Return the body of an `init`. Raises _Refused."""
    if message.get("type") != "init":
        raise _Refused(NOT_YET_INITIALIZED, "Not yet initialized")
    return {name: value for name, value in message.items() if name != "type"}
