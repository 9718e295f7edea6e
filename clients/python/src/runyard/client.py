"""The client for programs that wait: `Client`, a connection pool that several threads may share."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, Unpack

import httpx

from runyard._calls import RunOptions
from runyard._operations import Operations
from runyard._retry import RetryPolicy
from runyard._sync import Driver, EventStream
from runyard._transfer import opened
from runyard.config import Config
from runyard.functions import Functions
from runyard.sessions import Sessions

if TYPE_CHECKING:
    from runyard._steps import Notice, Operation
    from runyard._transfer import Progress, Source
    from runyard.models import Artifact, File, Key, Language, Page, Run

T = TypeVar("T")

#: Between looks at a run that is waited for with a time.
FIRST_LOOK_S = 0.02
MOST_LOOK_S = 1.0


class Client:
    """The service at `url` with a key; both come from the environment or the config file where they are not given.

    Raises ConfigError here; each call raises ApiError, ConnectionFailed or ProtocolError.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        retries: RetryPolicy | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self.config = Config.load(url, api_key)
        self._operations = Operations(retries or RetryPolicy())
        self._own = http is None
        self._http = http or httpx.Client(follow_redirects=False)
        self.runs = Runs(self)
        self.files = Files(self)
        self.keys = Keys(self)
        self.sessions = Sessions(self)
        self.functions = Functions(self)

    def languages(self) -> list[Language]:
        """List the supported languages."""
        return self._do(self._operations.languages())

    def usage(self, begin: str | None = None, end: str | None = None) -> dict[str, Any]:
        """Return this key's usage between two days (`YYYY-MM-DD`, UTC), both included. Default: this month."""
        return self._do(self._operations.usage(begin, end))

    def layer(self, layer_id: str) -> dict[str, Any]:
        """Return the layer of a run or session with packages: `packages` has what was installed."""
        return self._do(self._operations.layer(layer_id))

    def health(self) -> dict[str, Any]:
        """Return the health of the service: `status` and `checks`."""
        return self._do(self._operations.health())

    def close(self) -> None:
        """Close the connections, except those of an `http` that the caller gave."""
        if self._own:
            self._http.close()

    def _driver(self) -> Driver:
        return Driver(self._http, self.config)

    def _do(self, operation: Operation[T]) -> T:
        return self._driver().complete(operation)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Part:
    """A part of the client that is reached by an attribute of it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operations = client._operations  # a part of the same class
        self._do = client._do


class Runs(_Part):
    """`client.runs`: running programs, and what became of them."""

    def create(self, language: str, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Run a program and wait for its end. The service cancels it if the connection breaks meanwhile."""
        return self._do(self._operations.create_run(language, code, options))

    def start(self, language: str, code: str | None = None, **options: Unpack[RunOptions]) -> Run:
        """Have a program run in the background; see `wait`, `events` and `cancel`."""
        return self._do(self._operations.start_run(language, code, options))

    def stream(
        self,
        language: str,
        code: str | None = None,
        *,
        notice: Notice | None = None,
        **options: Unpack[RunOptions],
    ) -> EventStream:
        """Run a program and iterate over its events as they happen; use it in a `with`.

        A broken connection is reported to `notice` and the stream is resumed: no event is lost or repeated.
        """
        return EventStream(
            self._client._driver(),
            self._operations.stream_run(language, code, options, notice),
        )

    def events(self, run_id: str, *, after: int = 0, notice: Notice | None = None) -> EventStream:
        """Stream the events of an existing run with a number greater than `after`, stored ones first."""
        return EventStream(
            self._client._driver(),
            self._operations.follow_run(run_id, after, notice),
        )

    def wait(self, run_id: str, timeout_s: float | None = None) -> Run:
        """Wait for the end of a run and return it. Raises TimeoutError; the run then continues."""
        if timeout_s is None:
            return self.events(run_id).result()
        deadline, pause_s = time.monotonic() + timeout_s, FIRST_LOOK_S
        while not (run := self.get(run_id)).ended:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{run_id} has not ended after {timeout_s} s")
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, MOST_LOOK_S)
        return run

    def get(self, run_id: str, *, include_request: bool = False) -> Run:
        """Return a run in any state. `include_request` adds the request body as `raw["request"]`."""
        return self._do(self._operations.run(run_id, include_request=include_request))

    def list(
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
        return self._do(self._operations.runs(limit, after, order, status, language, function))

    def iterate(
        self, *, order: str | None = None, status: str | None = None, language: str | None = None
    ) -> Iterator[Run]:
        """Iterate over all of this key's runs, page by page."""
        after: str | None = None
        more = True
        while more:
            page = self.list(limit=100, after=after, order=order, status=status, language=language)
            yield from page.data
            more, after = page.has_more and page.last_id is not None, page.last_id

    def cancel(self, run_id: str) -> Run:
        """End a run early; one that has ended is answered as it is."""
        return self._do(self._operations.cancel_run(run_id))

    def delete(self, run_id: str) -> None:
        """Forget a run that has ended, and its artifacts."""
        self._do(self._operations.delete_run(run_id))


class Files(_Part):
    """`client.files`: bringing files, and fetching what runs left."""

    def upload(
        self,
        source: Source,
        *,
        name: str | None = None,
        purpose: str | None = None,
        progress: Progress | None = None,
    ) -> File:
        """Bring a file: a path, bytes, or a file open for reading bytes. Raises OSError for what cannot be read."""
        with opened(source, name, purpose, progress) as given:
            return self._do(self._operations.upload(given))

    def get(self, file_id: str) -> File:
        """Return the metadata of a file."""
        return self._do(self._operations.file(file_id))

    def list(self, *, limit: int | None = None, after: str | None = None, order: str | None = None) -> Page[File]:
        """Return a page of this key's files: uploads and the artifacts of its runs."""
        return self._do(self._operations.files(limit, after, order))

    def iterate(self, *, order: str | None = None) -> Iterator[File]:
        """Iterate over all of this key's files, page by page."""
        after: str | None = None
        more = True
        while more:
            page = self.list(limit=100, after=after, order=order)
            yield from page.data
            more, after = page.has_more and page.last_id is not None, page.last_id

    def download(self, file: Artifact | File | str, into: BinaryIO, *, progress: Progress | None = None) -> int:
        """Write a file's bytes into one that is open for it; how many. Length and hash are checked.

        For an artifact, its signed link is used. Raises DownloadError.
        """
        return self._do(self._operations.download(file, into, progress))

    def read(self, file: Artifact | File | str) -> bytes:
        """Return the bytes of a file."""
        held = io.BytesIO()
        self.download(file, held)
        return held.getvalue()

    def delete(self, file_id: str) -> None:
        """Forget a file."""
        self._do(self._operations.delete_file(file_id))


class Keys(_Part):
    """`client.keys`: the key that this client has, and making one where the service lets anybody."""

    def create(self) -> Key:
        """Create a key. Only this answer contains its secret."""
        return self._do(self._operations.create_key())

    def me(self) -> Key:
        """Return the metadata of this client's key."""
        return self._do(self._operations.my_key())

    def rotate(self) -> Key:
        """Replace this client's key. The old secret stays valid until `raw["previous_valid_until"]`."""
        return self._do(self._operations.rotate_key())

    def delete(self) -> None:
        """Delete this client's key."""
        self._do(self._operations.delete_key())
