"""Make every call about sessions an operation that a driver completes; both clients use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypedDict, TypeVar
from urllib.parse import quote

from runyard import _calls
from runyard._events import SILENCE_S, Following, LineBuffer, Place
from runyard._retry import RetryPolicy, exchange
from runyard._steps import Call, Chunk, Close, Emit, Operation, Pause, parsed
from runyard.errors import ConnectionFailed, DownloadError, NotFound
from runyard.models import Event, Page, Row, Run
from runyard.session_models import Entry, Process, SessionInfo, SessionToken

if TYPE_CHECKING:
    from runyard._calls import InlineFile, RunOptions
    from runyard._steps import Notice, Upload
    from runyard._transfer import Progress

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
_BYTES = {"Content-Type": "application/octet-stream"}
_TAR = {"Content-Type": "application/x-tar"}
_NDJSON = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
_PLAIN = {"Accept-Encoding": "identity"}
#: Beyond what a session takes to be created, and what a wait adds to its own time.
_SLACK_S = 60.0
#: The longest that one look waits for the end of a process.
_WAIT_S = 50
#: A process may print nothing for as long as it lives; the stream is then resumed at its position.
_QUIET_S = 10 * SILENCE_S


class SessionLimits(TypedDict, total=False):
    """Limits of a session; what is left out is the service's default."""

    memory_mb: int
    cpus: float
    pids: int
    disk_mb: int


class SessionNetwork(TypedDict, total=False):
    """The hosts that a session may reach, as patterns; `deny` wins."""

    allow: Sequence[str]
    deny: Sequence[str]


class SessionOptions(TypedDict, total=False):
    """Fields that a session may be created with. With the `name` of a live one, that one is returned."""

    name: str
    limits: SessionLimits
    env: Mapping[str, str]
    files: Sequence[InlineFile]
    idle_timeout_s: int
    max_age_s: int
    expires_in_s: int
    freeze_after_s: int
    on_idle: Literal["end", "pause"]
    workdir: Literal["/work", "/home/user", "/workspace", "/mnt/data"]
    outputs: str
    isolation: Literal["default", "container", "gvisor"]
    network: SessionNetwork
    packages: Sequence[str]
    metadata: Mapping[str, str]
    external_id: str


class SessionChange(TypedDict, total=False):
    """Fields of a live session that may be changed; what is left out stays as it is."""

    idle_timeout_s: int
    max_age_s: int
    expires_in_s: int
    freeze_after_s: int
    on_idle: Literal["end", "pause"]
    network: SessionNetwork
    metadata: Mapping[str, str]


class ProcessOptions(TypedDict, total=False):
    """Fields that a process may be started with. `stdin_open` lets `write` send it input later."""

    cwd: str
    env: Mapping[str, str]
    stdin: str
    stdin_open: bool
    timeout_ms: int
    tag: str
    keep_awake: bool


class SessionOperations:
    """All of them, under one policy of retries."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    # -- sessions ----------------------------------------------------------------------------------

    def create(self, language: str, options: SessionOptions) -> Operation[SessionInfo]:
        body: dict[str, Any] = {"language": language}
        body |= {name: value for name, value in options.items() if value is not None}
        if "files" in body:
            body["files"] = [_calls.inline_file(item) for item in body["files"]]
        silence_s = _SLACK_S
        if "packages" in body:
            body["packages"] = _calls.packages(body["packages"])
            silence_s += _calls.PACKAGES_SILENCE_S
        # Created twice it would be two, unless its name says that it is the same one.
        call = _post("/v1/sessions", body, safe="name" in body, silence_s=silence_s)
        return self._get(call, SessionInfo.of)

    def get(self, session_id: str) -> Operation[SessionInfo]:
        return self._get(_calls.fetch(_calls.item("sessions", session_id)), SessionInfo.of)

    def page(
        self, limit: int | None, after: str | None, order: str | None, status: str | None, name: str | None
    ) -> Operation[Page[SessionInfo]]:
        call = _calls.fetch("/v1/sessions", limit=limit, after=after, order=order, status=status, name=name)
        return self._get(call, _calls.page(SessionInfo.of))

    def update(self, session_id: str, change: SessionChange) -> Operation[SessionInfo]:
        body = json.dumps(change).encode()
        call = Call("PATCH", _calls.item("sessions", session_id), body=body, headers=_JSON)
        return self._get(call, SessionInfo.of)

    def act(self, session_id: str, what: str) -> Operation[SessionInfo]:
        """Do `pause` or `resume`."""
        return self._get(_calls.act(_calls.item("sessions", session_id, what), safe=True), SessionInfo.of)

    def token(self, session_id: str) -> Operation[SessionToken]:
        """Make the token of a session, the same each time."""
        return self._get(_calls.act(_calls.item("sessions", session_id, "token"), safe=True), SessionToken.of)

    def delete(self, session_id: str) -> Operation[None]:
        """End it; one that the service has forgotten has ended too."""
        call = Call("DELETE", _calls.item("sessions", session_id))
        try:
            yield from exchange(call, self.policy)
        except NotFound:
            return

    # -- runs --------------------------------------------------------------------------------------

    def run(self, info: SessionInfo, code: str | None, options: RunOptions) -> Operation[Run]:
        return _calls.waited(self._run(info, code, options, background=False), self.policy)

    def start_run(self, info: SessionInfo, code: str | None, options: RunOptions) -> Operation[Run]:
        return self._get(self._run(info, code, options, background=True), Run.of)

    def stream_run(
        self, info: SessionInfo, code: str | None, options: RunOptions, notice: Notice | None
    ) -> Following:
        start = self._run(info, code, options, background=True, live=True)
        return Following(Place(None), self.policy, start=start, notice=notice)

    def _run(
        self, info: SessionInfo, code: str | None, options: RunOptions, *, background: bool, live: bool = False
    ) -> Call:
        made = _calls.run(info.language, code, options, background=background, live=live)
        return replace(made, path=_calls.item("sessions", info.id, "runs"))

    # -- processes ---------------------------------------------------------------------------------

    def start(self, session_id: str, command: str | Sequence[str], options: ProcessOptions) -> Operation[Process]:
        """Start a process: a line for bash, or the arguments of a program."""
        body: dict[str, Any] = {"command": command} if isinstance(command, str) else {"argv": list(command)}
        body |= {name: value for name, value in options.items() if value is not None}
        return self._get(_post(_calls.item("sessions", session_id, "processes"), body, safe=False), Process.of)

    def run_process(
        self, session_id: str, command: str | Sequence[str], options: ProcessOptions
    ) -> Operation[Process]:
        """Start a process and wait for its end; a broken connection does not end it."""
        process = yield from self.start(session_id, command, options)
        return (yield from self.ended(session_id, process.id))

    def process(self, session_id: str, process: str, wait_s: int = 0) -> Operation[Process]:
        call = _calls.fetch(_process(session_id, process), **({"wait_s": wait_s} if wait_s else {}))
        return self._get(replace(call, silence_s=wait_s + _SLACK_S), Process.of)

    def ended(self, session_id: str, process: str) -> Operation[Process]:
        """Look at a process until it has ended."""
        while not (found := (yield from self.process(session_id, process, _WAIT_S))).ended:
            pass
        return found

    def processes(self, session_id: str) -> Operation[list[Process]]:
        call = _calls.fetch(_calls.item("sessions", session_id, "processes"))
        return self._get(call, lambda data: [Process.of(item) for item in Row(data, "list").items("data")])

    def write(self, session_id: str, process: str, data: bytes, *, close: bool) -> Operation[Process]:
        query = {"close": "1"} if close else {}
        path = _process(session_id, process, "stdin")
        return self._get(Call("POST", path, query, body=data, headers=_BYTES, safe=False), Process.of)

    def signal(self, session_id: str, process: str, name: str) -> Operation[Process]:
        return self._get(_post(_process(session_id, process, "signal"), {"signal": name}, safe=False), Process.of)

    def kill(self, session_id: str, process: str) -> Operation[Process]:
        return self._get(Call("DELETE", _process(session_id, process)), Process.of)

    def events(self, session_id: str, process: str, after: int) -> Operation[None]:
        """Emit the output of a process to its end, each event once, across lost connections."""
        attempt = 0
        while True:
            before = after
            query: dict[str, str | int] = {"after": after} if after else {}
            call = Call("GET", _process(session_id, process, "events"), query, headers=_NDJSON, silence_s=_QUIET_S)
            try:
                yield from exchange(call, self.policy, opened=True)
                buffer = LineBuffer()
                while (data := (yield Chunk())) is not None:
                    for line in buffer.feed(data):
                        event = _event(parsed(line), after)
                        after = event.seq
                        if event.last:
                            yield Close()
                        yield Emit(event)
                        if event.last:
                            return
                broken = ConnectionFailed("the service ended the stream before the process did")
            except ConnectionFailed as e:
                broken = e
            attempt = 1 if after > before else attempt + 1
            if not self.policy.again(attempt, None):
                raise broken
            yield Pause(self.policy.pause_s(attempt, None))

    # -- files -------------------------------------------------------------------------------------

    def read(self, session_id: str, path: str, into: BinaryIO, progress: Progress | None) -> Operation[int]:
        """Write a file's bytes to `into`; how many. Raises DownloadError if it is cut."""
        call = Call("GET", _files(session_id), {"path": path}, headers=_PLAIN)
        return self._copied(call, path, into, progress)

    def archive(
        self, session_id: str, path: str, into: BinaryIO, exclude: Sequence[str], progress: Progress | None
    ) -> Operation[int]:
        """Write a directory to `into` as a tar; how many bytes. Raises DownloadError if it is cut."""
        query = {"path": path, "exclude": list(exclude)}
        return self._copied(Call("GET", _files(session_id, "archive"), query, headers=_PLAIN), path, into, progress)

    def unpack(self, session_id: str, path: str, given: Upload, exclude: Sequence[str]) -> Operation[Entry]:
        """Unpack a tar beneath a directory; twice is no more than once."""
        query = {"path": path, "exclude": list(exclude)}
        return self._get(Call("PUT", _files(session_id, "archive"), query, content=given, headers=_TAR), Entry.of)

    def _copied(self, call: Call, path: str, into: BinaryIO, progress: Progress | None) -> Operation[int]:
        reply = yield from exchange(call, self.policy, opened=True)
        size, done = int(reply.headers.get("content-length", -1)), 0
        while (data := (yield Chunk())) is not None:
            into.write(data)
            done += len(data)
            if progress is not None:
                progress(done, max(done, size))
        yield Close()
        if size not in (-1, done):
            raise DownloadError(f"{path}: received {done} of {size} bytes")
        return done

    def put(self, session_id: str, path: str, given: Upload, mode: str | None) -> Operation[Entry]:
        """Replace a file; twice is no more than once."""
        query = {"path": path} | ({"mode": mode} if mode is not None else {})
        return self._get(Call("PUT", _files(session_id), query, content=given, headers=_BYTES), Entry.of)

    def stat(self, session_id: str, path: str) -> Operation[Entry]:
        return self._get(Call("GET", _files(session_id, "stat"), {"path": path}), Entry.of)

    def entries(
        self, session_id: str, path: str, depth: int | None, glob: str | None, limit: int | None
    ) -> Operation[list[Entry]]:
        given = {"path": path, "depth": depth, "glob": glob, "limit": limit}
        query = {name: value for name, value in given.items() if value is not None}
        return self._get(
            Call("GET", _files(session_id, "list"), query),
            lambda data: [Entry.of(item) for item in Row(data, "list").items("data")],
        )

    def remove(self, session_id: str, path: str, *, recursive: bool) -> Operation[Entry]:
        query = {"path": path} | ({"recursive": "1"} if recursive else {})
        return self._get(Call("DELETE", _files(session_id), query, safe=False), Entry.of)

    def change(self, session_id: str, what: str, fields: dict[str, Any]) -> Operation[Entry]:
        """Do `mkdir`, `move`, `copy` or `chmod`."""
        safe = what == "chmod"
        return self._get(_post(_files(session_id, what), fields, safe=safe), Entry.of)

    def _get(self, call: Call, read: Callable[[Any], T]) -> Operation[T]:
        return _calls.answered(call, self.policy, read)


def _post(path: str, body: dict[str, Any], *, safe: bool, silence_s: float | None = None) -> Call:
    return Call("POST", path, body=json.dumps(body).encode(), headers=_JSON, safe=safe, silence_s=silence_s)


def _process(session_id: str, process: str, *rest: str) -> str:
    """Return the path of a process: by its id, its pid, or `tag:` and its tag."""
    if process in ("", ".", ".."):
        raise ValueError("process: must not be empty, . or ..")
    return _calls.item("sessions", session_id, "processes", quote(process, safe=":"), *rest)


def _files(session_id: str, *rest: str) -> str:
    return _calls.item("sessions", session_id, "files", *rest)


def _event(data: object, after: int) -> Event:
    row = Row(data, "event")
    kind, found = row.text("event"), row.data.get("data")
    if kind == "result":
        return Event(after, kind, Process.of(found), 0)
    return Event(row.number("seq"), kind, found, row.number("t_ms", 0))
