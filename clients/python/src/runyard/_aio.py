"""Takes the steps of an operation one after the other, in an asyncio task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from runyard import _wire
from runyard._events import Following
from runyard._steps import Call, Chunk, Close, Emit, Finished, Open, Operation, Pause, Reply, Send, Step
from runyard.config import Config
from runyard.errors import ConnectionFailed, RunyardError
from runyard.models import Event, Run

T = TypeVar("T")


class Driver:
    """One operation at a time; every task has its own."""

    def __init__(self, http: httpx.AsyncClient, config: Config) -> None:
        self._http = http
        self._config = config
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def complete(self, operation: Operation[T]) -> T:
        """Take every step; the operation's result."""
        while not isinstance(found := await self.advance(operation), Finished):
            pass
        result: T = found.result
        return result

    async def advance(self, operation: Operation[Any]) -> Event | Finished:
        """Take steps until one of them is an event, or the operation has its result."""
        try:
            step = next(operation)
            while not isinstance(step, Emit):
                try:
                    outcome = await self._take(step)
                except ConnectionFailed as e:
                    step = operation.throw(e)
                else:
                    step = operation.send(outcome)
        except StopIteration as stop:
            await self.close()
            return Finished(stop.value)
        except BaseException:
            await self.close()
            raise
        return step.event

    async def close(self) -> None:
        """Release the open reply, if there is one."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def _take(self, step: Step) -> object:
        match step:
            case Send(call):
                return await self._whole(call)
            case Open(call):
                return await self._open(call)
            case Chunk():
                return await self._chunk()
            case Close():
                await self.close()
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Emit():
                raise AssertionError("an event is not a step to take")
        return None

    async def _whole(self, call: Call) -> Reply:
        try:
            arguments = _wire.arguments(call, self._config)
            if call.content is not None:
                arguments["content"] = _wire.pieces(call.content.content)
            response = await self._http.send(self._http.build_request(**arguments))
        except httpx.HTTPError as e:
            raise _wire.failure(e, self._config) from e
        return _wire.reply(response, response.content)

    async def _open(self, call: Call) -> Reply:
        await self.close()
        try:
            request = self._http.build_request(**_wire.arguments(call, self._config))
            response = await self._http.send(request, stream=True)
            if response.status_code >= 300:
                return _wire.reply(response, await response.aread())
        except httpx.HTTPError as e:
            raise _wire.failure(e, self._config) from e
        self._response, self._chunks = response, response.aiter_bytes()
        return _wire.reply(response)

    async def _chunk(self) -> bytes | None:
        try:
            return await anext(self._chunks, None) if self._chunks is not None else None
        except (httpx.HTTPError, httpx.StreamError) as e:
            raise _wire.failure(e, self._config) from e


class AsyncEventStream:
    """The events of a run, to be iterated once.

    `run_id` is known from the first event on (at once, of a run that was there). Leaving the `async with` block
    of a run that `stream()` started, before its end, cancels it; `close()` sends nothing and leaves the run alone.
    """

    def __init__(self, driver: Driver, followed: Following) -> None:
        self._driver = driver
        self._followed = followed
        self._operation = followed.events()

    @property
    def run_id(self) -> str | None:
        """Return the run's id, None until it is known."""
        return self._followed.place.run_id

    @property
    def after(self) -> int:
        """Return the number of the last event that was yielded."""
        return self._followed.place.after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        found = await self._driver.advance(self._operation)
        if isinstance(found, Finished):
            raise StopAsyncIteration
        return found

    async def result(self) -> Run:
        """Wait for the end of the run and return it. Remaining events are discarded."""
        async for _ in self:
            pass
        return await self._driver.complete(self._followed.result())

    async def cancel(self) -> Run | None:
        """Stop listening and cancel the run; None if it had not been started."""
        await self._stop()
        return await self._driver.complete(self._followed.cancelled())

    async def close(self) -> None:
        """Stop reading without a request: a live run continues, and `cancel` still ends it."""
        self._followed.release()
        await self._stop()

    async def _stop(self) -> None:
        self._operation.close()
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._followed.must_cancel:
            await self.close()
            return
        # The first error must not be hidden by one of `cancel`.
        with suppress(*(() if kind is None else (RunyardError,))):
            await self.cancel()
