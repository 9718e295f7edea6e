"""`client.sessions`: sandboxes that stay alive, with their runs, processes and files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, Unpack

from runyard._session_calls import ProcessOptions, SessionChange, SessionOperations, SessionOptions
from runyard._steps import Finished
from runyard._sync import EventStream
from runyard._transfer import opened
from runyard.contexts import Contexts
from runyard.errors import RunyardError
from runyard.session_models import Process

if TYPE_CHECKING:
    from runyard._calls import RunOptions
    from runyard._steps import Notice, Operation
    from runyard._sync import Driver
    from runyard._transfer import Progress, Source
    from runyard.client import Client
    from runyard.models import Event, Page, Run
    from runyard.session_models import Entry, SessionInfo, SessionToken


class Sessions:
    """`client.sessions`: creating sessions, finding them again, and ending them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operations = SessionOperations(client._operations.policy)
        self._do = client._do

    def create(self, language: str, **options: Unpack[SessionOptions]) -> Session:
        """Create a session, or find the live one of that `name`; a `with` block deletes it at its end."""
        return Session(self._client, self._do(self._operations.create(language, options)))

    def get(self, session_id: str) -> Session:
        """Find a session that is there, live or ended."""
        return Session(self._client, self._do(self._operations.get(session_id)))

    def list(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        order: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[SessionInfo]:
        """List a page of this key's sessions; `status` is `live` or `ended`."""
        return self._do(self._operations.page(limit, after, order, status, name))

    def iterate(
        self, *, order: str | None = None, status: str | None = None, name: str | None = None
    ) -> Iterator[SessionInfo]:
        """List all of this key's sessions, page by page."""
        after: str | None = None
        more = True
        while more:
            page = self.list(limit=100, after=after, order=order, status=status, name=name)
            yield from page.data
            more, after = page.has_more and page.last_id is not None, page.last_id

    def delete(self, session_id: str) -> None:
        """End a session with everything in it; may be repeated."""
        self._do(self._operations.delete(session_id))


class Session:
    """One session. `info` is what was last known of it; leaving a `with` block deletes it."""

    def __init__(self, client: Client, info: SessionInfo) -> None:
        self.info = info
        self._client = client
        self._operations = SessionOperations(client._operations.policy)
        self._do = client._do
        self.runs = SessionRuns(self)
        self.processes = Processes(self)
        self.files = SessionFiles(self)
        self.contexts = Contexts(self)

    @property
    def id(self) -> str:
        """Return its id."""
        return self.info.id

    def run(self, code: str, **options: Unpack[RunOptions]) -> Run:
        """Run code in it and wait for the end; in a language that keeps variables, after those of earlier runs."""
        return self.runs.create(code, **options)

    def refresh(self) -> SessionInfo:
        """Fetch the session's current state."""
        self.info = self._do(self._operations.get(self.id))
        return self.info

    def update(self, **change: Unpack[SessionChange]) -> SessionInfo:
        """Change what it was created with; `metadata` replaces all of it."""
        self.info = self._do(self._operations.update(self.id, change))
        return self.info

    def pause(self) -> SessionInfo:
        """Stop everything in it until `resume`."""
        self.info = self._do(self._operations.act(self.id, "pause"))
        return self.info

    def resume(self) -> SessionInfo:
        """Let it go on."""
        self.info = self._do(self._operations.act(self.id, "resume"))
        return self.info

    def token(self) -> SessionToken:
        """Make a token that opens this session alone, until it ends."""
        return self._do(self._operations.token(self.id))

    def delete(self) -> None:
        """End it with everything in it; may be repeated."""
        self._do(self._operations.delete(self.id))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The first error must not be hidden by one of `delete`.
        with suppress(*(() if kind is None else (RunyardError,))):
            self.delete()


class _Part:
    """A part of a session that is reached by an attribute of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._operations = session._operations
        self._do = session._do


class SessionRuns(_Part):
    """`session.runs`: programs in the session, one after the other; `client.runs` knows them too."""

    def create(self, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program and wait for its end."""
        return self._do(self._operations.run(self._session.info, code, options))

    def start(self, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program in the background; see `client.runs.wait`."""
        return self._do(self._operations.start_run(self._session.info, code, options))

    def stream(
        self, code: str | None = None, *, notice: Notice | None = None, **options: Unpack[RunOptions]
    ) -> EventStream:
        """Run a program and iterate over its events as they happen; use it in a `with`."""
        followed = self._operations.stream_run(self._session.info, code, options, notice)
        return EventStream(self._session._client._driver(), followed)


class Processes(_Part):
    """`session.processes`. One is named by its id, its pid, or `tag:` and its tag; a Process will do too."""

    def start(self, command: str | Sequence[str], **options: Unpack[ProcessOptions]) -> Process:
        """Start a line of bash, or a program with its arguments; it lives on when nobody waits for it."""
        return self._do(self._operations.start(self._session.id, command, options))

    def run(self, command: str | Sequence[str], **options: Unpack[ProcessOptions]) -> Process:
        """Start it and wait for its end; the process with its output."""
        return self._do(self._operations.run_process(self._session.id, command, options))

    def list(self) -> list[Process]:
        """List those that are alive, and the last that have ended."""
        return self._do(self._operations.processes(self._session.id))

    def get(self, process: Process | str, *, wait_s: int = 0) -> Process:
        """Return a process, after waiting up to `wait_s` for its end."""
        return self._do(self._operations.process(self._session.id, named(process), wait_s))

    def wait(self, process: Process | str) -> Process:
        """Wait for the end of a process; the process with its output."""
        return self._do(self._operations.ended(self._session.id, named(process)))

    def stream(self, process: Process | str, *, after: int = 0) -> ProcessStream:
        """Iterate over the output of a process, live or again, to its end. Closing it does not end the process."""
        events = self._operations.events(self._session.id, named(process), after)
        return ProcessStream(self._session._client._driver(), events)

    def write(self, process: Process | str, data: str | bytes = b"", *, close: bool = False) -> Process:
        """Send input to a process that was started with `stdin_open`, and with `close` its end."""
        raw = data.encode() if isinstance(data, str) else data
        return self._do(self._operations.write(self._session.id, named(process), raw, close=close))

    def signal(self, process: Process | str, name: str) -> Process:
        """Send a signal such as `SIGINT` to its main process."""
        return self._do(self._operations.signal(self._session.id, named(process), name))

    def kill(self, process: Process | str) -> Process:
        """Kill a process and all that it has started."""
        return self._do(self._operations.kill(self._session.id, named(process)))


class ProcessStream:
    """The events of a process, to be iterated once: those of a run, and `result` with the Process at last."""

    def __init__(self, driver: Driver, events: Operation[None]) -> None:
        self._driver = driver
        self._operation = events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        found = self._driver.advance(self._operation)
        if isinstance(found, Finished):
            raise StopIteration
        return found

    def close(self) -> None:
        """Stop listening."""
        self._operation.close()
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SessionFiles(_Part):
    """`session.files`. A path is relative to `/work`, or absolute."""

    def read(self, path: str) -> bytes:
        """Read a file's bytes."""
        held = io.BytesIO()
        self.download(path, held)
        return held.getvalue()

    def download(self, path: str, into: BinaryIO | Path, *, progress: Progress | None = None) -> int:
        """Write a file's bytes into one here; how many. Raises DownloadError if it is cut."""
        if isinstance(into, Path):
            with into.open("wb") as opened_file:
                return self.download(path, opened_file, progress=progress)
        return self._do(self._operations.read(self._session.id, path, into, progress))

    def write(
        self, path: str, source: Source, *, mode: str | None = None, progress: Progress | None = None
    ) -> Entry:
        """Replace a file: by text, by bytes, or by the content of a Path or of an open file."""
        with opened(content_of(source), None, None, progress) as given:
            return self._do(self._operations.put(self._session.id, path, given, mode))

    def archive(
        self,
        path: str,
        into: BinaryIO | Path,
        *,
        exclude: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> int:
        """Write a directory into a file here, as a tar; how many bytes. Raises DownloadError if it is cut.

        Programs of the session made what is in it: unpack it with tarfile's filter `data`.
        """
        if isinstance(into, Path):
            with into.open("wb") as opened_file:
                return self.archive(path, opened_file, exclude=exclude, progress=progress)
        return self._do(self._operations.archive(self._session.id, path, into, exclude, progress))

    def unpack(
        self, path: str, source: Source, *, exclude: Sequence[str] = (), progress: Progress | None = None
    ) -> Entry:
        """Unpack a tar beneath a directory: bytes, or the content of a Path or of an open file."""
        with opened(content_of(source), None, None, progress) as given:
            return self._do(self._operations.unpack(self._session.id, path, given, exclude))

    def list(
        self, path: str = "/work", *, depth: int | None = None, glob: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the entries of a directory, by name."""
        return self._do(self._operations.entries(self._session.id, path, depth, glob, limit))

    def stat(self, path: str) -> Entry:
        """Return an entry; a link is not followed."""
        return self._do(self._operations.stat(self._session.id, path))

    def mkdir(self, path: str, *, parents: bool = False) -> Entry:
        """Make a directory, with `parents` also those above it."""
        return self._do(self._operations.change(self._session.id, "mkdir", {"path": path, "parents": parents}))

    def move(self, source: str, to: str, *, overwrite: bool = False) -> Entry:
        """Move a file or a directory."""
        fields = {"from": source, "to": to, "overwrite": overwrite}
        return self._do(self._operations.change(self._session.id, "move", fields))

    def copy(self, source: str, to: str, *, overwrite: bool = False) -> Entry:
        """Copy a file, or a directory with all that is in it."""
        fields = {"from": source, "to": to, "overwrite": overwrite}
        return self._do(self._operations.change(self._session.id, "copy", fields))

    def chmod(self, path: str, mode: str) -> Entry:
        """Set the permission bits, in octal."""
        return self._do(self._operations.change(self._session.id, "chmod", {"path": path, "mode": mode}))

    def remove(self, path: str, *, recursive: bool = False) -> Entry:
        """Remove a file, a link, or a directory."""
        return self._do(self._operations.remove(self._session.id, path, recursive=recursive))


def named(process: Process | str) -> str:
    """Return the name of a process in a path."""
    return process.id if isinstance(process, Process) else process


def content_of(source: Source) -> Source:
    """Return what is to be written: a str is text here, and never the path of a file."""
    return source.encode() if isinstance(source, str) else source
