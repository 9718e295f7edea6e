"""The client for asyncio: `AsyncClient`, the same calls as `Client`, awaited."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, Unpack

import httpx

from runyard._aio import AsyncEventStream, Driver
from runyard._calls import RunOptions
from runyard._operations import Operations
from runyard._retry import RetryPolicy
from runyard._transfer import opened
from runyard.aiofunctions import AsyncFunctions
from runyard.aiosessions import AsyncSessions
from runyard.client import FIRST_LOOK_S, MOST_LOOK_S
from runyard.config import Config

if TYPE_CHECKING:
    from runyard._steps import Notice, Operation
    from runyard._transfer import Progress, Source
    from runyard.models import Artifact, File, Key, Language, Page, Run

T = TypeVar("T")


class AsyncClient:
    """The service at `url` with a key; both come from the environment or the config file where they are not given.

    Raises ConfigError here; each call raises ApiError, ConnectionFailed or ProtocolError.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: RetryPolicy | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.config = Config.load(url, api_key)
        self._operations = Operations(retries or RetryPolicy())
        self._own = http is None
        self._http = http or httpx.AsyncClient(follow_redirects=False)
        self.runs = AsyncRuns(self)
        self.files = AsyncFiles(self)
        self.keys = AsyncKeys(self)
        self.sessions = AsyncSessions(self)
        self.functions = AsyncFunctions(self)

    async def languages(self) -> list[Language]:
        """List the supported languages."""
        return await self._do(self._operations.languages())

    async def usage(self, begin: str | None = None, end: str | None = None) -> dict[str, Any]:
        """Return this key's usage between two days (`YYYY-MM-DD`, UTC), both included. Default: this month."""
        return await self._do(self._operations.usage(begin, end))

    async def layer(self, layer_id: str) -> dict[str, Any]:
        """Return the layer of a run or session with packages: `packages` has what was installed."""
        return await self._do(self._operations.layer(layer_id))

    async def health(self) -> dict[str, Any]:
        """Return the health of the service: `status` and `checks`."""
        return await self._do(self._operations.health())

    async def close(self) -> None:
        """Close the connections, except those of an `http` that the caller gave."""
        if self._own:
            await self._http.aclose()

    def _driver(self) -> Driver:
        return Driver(self._http, self.config)

    async def _do(self, operation: Operation[T]) -> T:
        return await self._driver().complete(operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Part:
    """A part of the client that is reached by an attribute of it."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._operations = client._operations  # a part of the same class
        self._do = client._do


class AsyncRuns(_Part):
    """`client.runs`: running programs, and what became of them."""

    async def create(self, language: str, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program and wait for its end. The service cancels it if the connection breaks meanwhile."""
        return await self._do(self._operations.create_run(language, code, options))

    async def start(self, language: str, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Have a program run in the background; see `wait`, `events` and `cancel`."""
        return await self._do(self._operations.start_run(language, code, options))

    def stream(
        self,
        language: str,
        code: str | None = None,
        *,
        notice: Notice | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncEventStream:
        """Run a program and iterate over its events as they happen; use it in an `async with`.

        A broken connection is reported to `notice` and the stream is resumed: no event is lost or repeated.
        """
        return AsyncEventStream(
            self._client._driver(),
            self._operations.stream_run(language, code, options, notice),
        )

    def events(self, run_id: str, *, after: int = 0, notice: Notice | None = None) -> AsyncEventStream:
        """Stream the events of an existing run with a number greater than `after`, stored ones first."""
        return AsyncEventStream(
            self._client._driver(),
            self._operations.follow_run(run_id, after, notice),
        )

    async def wait(self, run_id: str, timeout_s: float | None = None) -> Run:
        """Wait for the end of a run and return it. Raises TimeoutError; the run then continues."""
        if timeout_s is None:
            return await self.events(run_id).result()
        deadline, pause_s = asyncio.get_running_loop().time() + timeout_s, FIRST_LOOK_S
        while not (run := await self.get(run_id)).ended:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise TimeoutError(f"{run_id} has not ended after {timeout_s} s")
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, MOST_LOOK_S)
        return run

    async def get(self, run_id: str, *, include_request: bool = False) -> Run:
        """Return a run in any state. `include_request` adds the request body as `raw["request"]`."""
        return await self._do(self._operations.run(run_id, include_request=include_request))

    async def list(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        order: str | None = None,
        status: str | None = None,
        language: str | None = None,
        function: str | None = None,
    ) -> Page[Run]:
        """Return a page of this key's runs; `function` selects the builds and calls of one."""
        return await self._do(self._operations.runs(limit, after, order, status, language, function))

    async def iterate(
        self, *, order: str | None = None, status: str | None = None, language: str | None = None
    ) -> AsyncIterator[Run]:
        """Iterate over all of this key's runs, page by page."""
        after: str | None = None
        more = True
        while more:
            page = await self.list(limit=100, after=after, order=order, status=status, language=language)
            for found in page.data:
                yield found
            more, after = page.has_more and page.last_id is not None, page.last_id

    async def cancel(self, run_id: str) -> Run:
        """End a run early; one that has ended is answered as it is."""
        return await self._do(self._operations.cancel_run(run_id))

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended, and its artifacts."""
        await self._do(self._operations.delete_run(run_id))


class AsyncFiles(_Part):
    """`client.files`: bringing files, and fetching what runs left."""

    async def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        purpose: str | None = None,
        progress: Progress | None = None,
    ) -> File:
        """Bring a file: a path, bytes, or a file open for reading bytes. Raises OSError for what cannot be read."""
        with opened(source, name, purpose, progress) as given:
            return await self._do(self._operations.upload(given))

    async def get(self, file_id: str) -> File:
        """Return the metadata of a file."""
        return await self._do(self._operations.file(file_id))

    async def list(
        self, *, limit: int | None = None, after: str | None = None, order: str | None = None
    ) -> Page[File]:
        """Return a page of this key's files: uploads and the artifacts of its runs."""
        return await self._do(self._operations.files(limit, after, order))

    async def iterate(self, *, order: str | None = None) -> AsyncIterator[File]:
        """Iterate over all of this key's files, page by page."""
        after: str | None = None
        more = True
        while more:
            page = await self.list(limit=100, after=after, order=order)
            for found in page.data:
                yield found
            more, after = page.has_more and page.last_id is not None, page.last_id

    async def download(
        self, file: Artifact | File | str, into: BinaryIO, *, progress: Progress | None = None
    ) -> int:
        """Write a file's bytes into one that is open for it; how many. Length and hash are checked.

        For an artifact, its signed link is used. Raises DownloadError.
        """
        return await self._do(self._operations.download(file, into, progress))

    async def read(self, file: Artifact | File | str) -> bytes:
        """Return the bytes of a file."""
        held = io.BytesIO()
        await self.download(file, held)
        return held.getvalue()

    async def delete(self, file_id: str) -> None:
        """Forget a file."""
        await self._do(self._operations.delete_file(file_id))


class AsyncKeys(_Part):
    """`client.keys`: the key that this client has, and making one where the service lets anybody."""

    async def create(self) -> Key:
        """Create a key. Only this answer contains its secret."""
        return await self._do(self._operations.create_key())

    async def me(self) -> Key:
        """Return the metadata of this client's key."""
        return await self._do(self._operations.my_key())

    async def rotate(self) -> Key:
        """Replace this client's key. The old secret stays valid until `raw["previous_valid_until"]`."""
        return await self._do(self._operations.rotate_key())

    async def delete(self) -> None:
        """Delete this client's key."""
        await self._do(self._operations.delete_key())
