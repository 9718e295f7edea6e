"""`client.sessions` for asyncio: the same calls as of `Client`, awaited."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, Unpack

from runyard._aio import AsyncEventStream
from runyard._session_calls import ProcessOptions, SessionChange, SessionOperations, SessionOptions
from runyard._steps import Finished
from runyard._transfer import opened
from runyard.aiocontexts import AsyncContexts
from runyard.errors import RunyardError
from runyard.sessions import content_of, named

if TYPE_CHECKING:
    from runyard._aio import Driver
    from runyard._calls import RunOptions
    from runyard._steps import Notice, Operation
    from runyard._transfer import Progress, Source
    from runyard.aio import AsyncClient
    from runyard.models import Event, Page, Run
    from runyard.session_models import Entry, Process, SessionInfo, SessionToken


class AsyncSessions:
    """`client.sessions`: creating sessions, finding them again, and ending them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._operations = SessionOperations(client._operations.policy)
        self._do = client._do

    async def create(self, language: str, **options: Unpack[SessionOptions]) -> AsyncSession:
        """Create a session, or find the live one of that `name`; an `async with` block deletes it at its end."""
        return AsyncSession(self._client, await self._do(self._operations.create(language, options)))

    async def get(self, session_id: str) -> AsyncSession:
        """Find a session that is there, live or ended."""
        return AsyncSession(self._client, await self._do(self._operations.get(session_id)))

    async def list(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        order: str | None = None,
        status: str | None = None,
        name: str | None = None,
    ) -> Page[SessionInfo]:
        """List a page of this key's sessions; `status` is `live` or `ended`."""
        return await self._do(self._operations.page(limit, after, order, status, name))

    async def iterate(
        self, *, order: str | None = None, status: str | None = None, name: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        """List all of this key's sessions, page by page."""
        after: str | None = None
        more = True
        while more:
            page = await self.list(limit=100, after=after, order=order, status=status, name=name)
            for found in page.data:
                yield found
            more, after = page.has_more and page.last_id is not None, page.last_id

    async def delete(self, session_id: str) -> None:
        """End a session with everything in it; may be repeated."""
        await self._do(self._operations.delete(session_id))


class AsyncSession:
    """One session. `info` is what was last known of it; leaving an `async with` block deletes it."""

    def __init__(self, client: AsyncClient, info: SessionInfo) -> None:
        self.info = info
        self._client = client
        self._operations = SessionOperations(client._operations.policy)
        self._do = client._do
        self.runs = AsyncSessionRuns(self)
        self.processes = AsyncProcesses(self)
        self.files = AsyncSessionFiles(self)
        self.contexts = AsyncContexts(self)

    @property
    def id(self) -> str:
        """Return its id."""
        return self.info.id

    async def run(self, code: str, **options: Unpack[RunOptions]) -> Run:
        """Run code in it and wait for the end; in a language that keeps variables, after those of earlier runs."""
        return await self.runs.create(code, **options)

    async def refresh(self) -> SessionInfo:
        """Fetch the session's current state."""
        self.info = await self._do(self._operations.get(self.id))
        return self.info

    async def update(self, **change: Unpack[SessionChange]) -> SessionInfo:
        """Change what it was created with; `metadata` replaces all of it."""
        self.info = await self._do(self._operations.update(self.id, change))
        return self.info

    async def pause(self) -> SessionInfo:
        """Stop everything in it until `resume`."""
        self.info = await self._do(self._operations.act(self.id, "pause"))
        return self.info

    async def resume(self) -> SessionInfo:
        """Let it go on."""
        self.info = await self._do(self._operations.act(self.id, "resume"))
        return self.info

    async def token(self) -> SessionToken:
        """Make a token that opens this session alone, until it ends."""
        return await self._do(self._operations.token(self.id))

    async def delete(self) -> None:
        """End it with everything in it; may be repeated."""
        await self._do(self._operations.delete(self.id))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The first error must not be hidden by one of `delete`.
        with suppress(*(() if kind is None else (RunyardError,))):
            await self.delete()


class _Part:
    """A part of a session that is reached by an attribute of it."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._operations = session._operations
        self._do = session._do


class AsyncSessionRuns(_Part):
    """`session.runs`: programs in the session, one after the other; `client.runs` knows them too."""

    async def create(self, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program and wait for its end."""
        return await self._do(self._operations.run(self._session.info, code, options))

    async def start(self, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program in the background; see `client.runs.wait`."""
        return await self._do(self._operations.start_run(self._session.info, code, options))

    def stream(
        self, code: str | None = None, *, notice: Notice | None = None, **options: Unpack[RunOptions]
    ) -> AsyncEventStream:
        """Run a program and iterate over its events as they happen; use it in an `async with`."""
        followed = self._operations.stream_run(self._session.info, code, options, notice)
        return AsyncEventStream(self._session._client._driver(), followed)


class AsyncProcesses(_Part):
    """`session.processes`. One is named by its id, its pid, or `tag:` and its tag; a Process will do too."""

    async def start(self, command: str | Sequence[str], **options: Unpack[ProcessOptions]) -> Process:
        """Start a line of bash, or a program with its arguments; it lives on when nobody waits for it."""
        return await self._do(self._operations.start(self._session.id, command, options))

    async def run(self, command: str | Sequence[str], **options: Unpack[ProcessOptions]) -> Process:
        """Start it and wait for its end; the process with its output."""
        return await self._do(self._operations.run_process(self._session.id, command, options))

    async def list(self) -> list[Process]:
        """List those that are alive, and the last that have ended."""
        return await self._do(self._operations.processes(self._session.id))

    async def get(self, process: Process | str, *, wait_s: int = 0) -> Process:
        """Return a process, after waiting up to `wait_s` for its end."""
        return await self._do(self._operations.process(self._session.id, named(process), wait_s))

    async def wait(self, process: Process | str) -> Process:
        """Wait for the end of a process; the process with its output."""
        return await self._do(self._operations.ended(self._session.id, named(process)))

    def stream(self, process: Process | str, *, after: int = 0) -> AsyncProcessStream:
        """Iterate over the output of a process, live or again, to its end. Closing it does not end the process."""
        events = self._operations.events(self._session.id, named(process), after)
        return AsyncProcessStream(self._session._client._driver(), events)

    async def write(self, process: Process | str, data: str | bytes = b"", *, close: bool = False) -> Process:
        """Send input to a process that was started with `stdin_open`, and with `close` its end."""
        raw = data.encode() if isinstance(data, str) else data
        return await self._do(self._operations.write(self._session.id, named(process), raw, close=close))

    async def signal(self, process: Process | str, name: str) -> Process:
        """Send a signal such as `SIGINT` to its main process."""
        return await self._do(self._operations.signal(self._session.id, named(process), name))

    async def kill(self, process: Process | str) -> Process:
        """Kill a process and all that it has started."""
        return await self._do(self._operations.kill(self._session.id, named(process)))


class AsyncProcessStream:
    """The events of a process, to be iterated once: those of a run, and `result` with the Process at last."""

    def __init__(self, driver: Driver, events: Operation[None]) -> None:
        self._driver = driver
        self._operation = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        found = await self._driver.advance(self._operation)
        if isinstance(found, Finished):
            raise StopAsyncIteration
        return found

    async def close(self) -> None:
        """Stop listening."""
        self._operation.close()
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncSessionFiles(_Part):
    """`session.files`. A path is relative to `/work`, or absolute."""

    async def read(self, path: str) -> bytes:
        """Read a file's bytes."""
        held = io.BytesIO()
        await self.download(path, held)
        return held.getvalue()

    async def download(self, path: str, into: BinaryIO | Path, *, progress: Progress | None = None) -> int:
        """Write a file's bytes into one here; how many. Raises DownloadError if it is cut."""
        if isinstance(into, Path):
            with into.open("wb") as opened_file:
                return await self.download(path, opened_file, progress=progress)
        return await self._do(self._operations.read(self._session.id, path, into, progress))

    async def write(
        self, path: str, source: Source, *, mode: str | None = None, progress: Progress | None = None
    ) -> Entry:
        """Replace a file: by text, by bytes, or by the content of a Path or of an open file."""
        with opened(content_of(source), None, None, progress) as given:
            return await self._do(self._operations.put(self._session.id, path, given, mode))

    async def archive(
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
                return await self.archive(path, opened_file, exclude=exclude, progress=progress)
        return await self._do(self._operations.archive(self._session.id, path, into, exclude, progress))

    async def unpack(
        self, path: str, source: Source, *, exclude: Sequence[str] = (), progress: Progress | None = None
    ) -> Entry:
        """Unpack a tar beneath a directory: bytes, or the content of a Path or of an open file."""
        with opened(content_of(source), None, None, progress) as given:
            return await self._do(self._operations.unpack(self._session.id, path, given, exclude))

    async def list(
        self, path: str = "/work", *, depth: int | None = None, glob: str | None = None, limit: int | None = None
    ) -> list[Entry]:
        """List the entries of a directory, by name."""
        return await self._do(self._operations.entries(self._session.id, path, depth, glob, limit))

    async def stat(self, path: str) -> Entry:
        """Return an entry; a link is not followed."""
        return await self._do(self._operations.stat(self._session.id, path))

    async def mkdir(self, path: str, *, parents: bool = False) -> Entry:
        """Make a directory, with `parents` also those above it."""
        return await self._do(
            self._operations.change(self._session.id, "mkdir", {"path": path, "parents": parents})
        )

    async def move(self, source: str, to: str, *, overwrite: bool = False) -> Entry:
        """Move a file or a directory."""
        fields = {"from": source, "to": to, "overwrite": overwrite}
        return await self._do(self._operations.change(self._session.id, "move", fields))

    async def copy(self, source: str, to: str, *, overwrite: bool = False) -> Entry:
        """Copy a file, or a directory with all that is in it."""
        fields = {"from": source, "to": to, "overwrite": overwrite}
        return await self._do(self._operations.change(self._session.id, "copy", fields))

    async def chmod(self, path: str, mode: str) -> Entry:
        """Set the permission bits, in octal."""
        return await self._do(self._operations.change(self._session.id, "chmod", {"path": path, "mode": mode}))

    async def remove(self, path: str, *, recursive: bool = False) -> Entry:
        """Remove a file, a link, or a directory."""
        return await self._do(self._operations.remove(self._session.id, path, recursive=recursive))
