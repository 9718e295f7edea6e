"""`client.functions` for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Unpack

from runyard._aio import AsyncEventStream
from runyard._function_calls import CallOptions, FunctionOperations, FunctionOptions

if TYPE_CHECKING:
    from runyard._steps import Notice
    from runyard.aio import AsyncClient
    from runyard.function_models import Function
    from runyard.models import Page, Run


class AsyncFunctions:
    """`client.functions`: deploying functions, calling them, and deleting them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._operations = FunctionOperations(client._operations.policy)
        self._do = client._do

    async def deploy(
        self, name: str, language: str, code: str | None = None, **options: Unpack[FunctionOptions]
    ) -> Function:
        """Deploy the next version of a function and wait for its build; `state` and `log` say how that ended."""
        return await self._do(self._operations.deploy(name, language, code, options))

    async def call(self, name: str, value: object = None, **options: Unpack[CallOptions]) -> Run:
        """Call a function with any JSON and wait for its end; `output` of the run is what it returned.

        The service cancels the run if the connection breaks meanwhile.
        """
        return await self._do(self._operations.call(name, value, options))

    async def start(self, name: str, value: object = None, **options: Unpack[CallOptions]) -> Run:
        """Call a function in the background; see `client.runs.wait`."""
        return await self._do(self._operations.start(name, value, options))

    def stream(
        self, name: str, value: object = None, *, notice: Notice | None = None, **options: Unpack[CallOptions]
    ) -> AsyncEventStream:
        """Call a function and iterate over the events of the run; use it in an `async with`."""
        return AsyncEventStream(self._client._driver(), self._operations.stream(name, value, options, notice))

    async def get(self, name: str, version: int | None = None) -> Function:
        """Return a version of a function, by default the newest that is ready."""
        return await self._do(self._operations.get(name, version))

    async def list(
        self, *, limit: int | None = None, after: str | None = None, order: str | None = None
    ) -> Page[Function]:
        """Return a page of this key's functions."""
        return await self._do(self._operations.page(limit, after, order))

    async def iterate(self, *, order: str | None = None) -> AsyncIterator[Function]:
        """Iterate over all of this key's functions, page by page."""
        after: str | None = None
        more = True
        while more:
            page = await self.list(limit=100, after=after, order=order)
            for function in page.data:
                yield function
            more, after = page.has_more and page.last_id is not None, page.last_id

    async def delete(self, name: str) -> None:
        """Delete a function with all its versions."""
        await self._do(self._operations.delete(name))
