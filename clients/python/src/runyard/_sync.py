"""Takes the steps of an operation one after the other, in the calling thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    """One operation at a time; every thread has its own."""

    def __init__(self, http: httpx.Client, config: Config) -> None:
        self._http = http
        self._config = config
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def complete(self, operation: Operation[T]) -> T:
        """Take every step; the operation's result."""
        while not isinstance(found := self.advance(operation), Finished):
            pass
        result: T = found.result
        return result

    def advance(self, operation: Operation[Any]) -> Event | Finished:
        """Take steps until one of them is an event, or the operation has its result."""
        try:
            step = next(operation)
            while not isinstance(step, Emit):
                try:
                    outcome = self._take(step)
                except ConnectionFailed as e:
                    step = operation.throw(e)
                else:
                    step = operation.send(outcome)
        except StopIteration as stop:
            self.close()
            return Finished(stop.value)
        except BaseException:
            self.close()
            raise
        return step.event

    def close(self) -> None:
        """Release the open reply, if there is one."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _take(self, step: Step) -> object:
        match step:
            case Send(call):
                return self._whole(call)
            case Open(call):
                return self._open(call)
            case Chunk():
                return self._chunk()
            case Close():
                self.close()
            case Pause(seconds):
                time.sleep(seconds)
            case Emit():
                raise AssertionError("an event is not a step to take")
        return None

    def _whole(self, call: Call) -> Reply:
        try:
            response = self._http.send(self._http.build_request(**_wire.arguments(call, self._config)))
        except httpx.HTTPError as e:
            raise _wire.failure(e, self._config) from e
        return _wire.reply(response, response.content)

    def _open(self, call: Call) -> Reply:
        self.close()
        try:
            request = self._http.build_request(**_wire.arguments(call, self._config))
            response = self._http.send(request, stream=True)
            if response.status_code >= 300:
                return _wire.reply(response, response.read())
        except httpx.HTTPError as e:
            raise _wire.failure(e, self._config) from e
        self._response, self._chunks = response, response.iter_bytes()
        return _wire.reply(response)

    def _chunk(self) -> bytes | None:
        try:
            return next(self._chunks, None)
        except (httpx.HTTPError, httpx.StreamError) as e:
            raise _wire.failure(e, self._config) from e


class EventStream:
    """The events of a run, to be iterated once.

    `run_id` is known from the first event on (at once, of a run that was there). Leaving the `with` block
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

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        found = self._driver.advance(self._operation)
        if isinstance(found, Finished):
            raise StopIteration
        return found

    def result(self) -> Run:
        """Wait for the end of the run and return it. Remaining events are discarded."""
        for _ in self:
            pass
        return self._driver.complete(self._followed.result())

    def cancel(self) -> Run | None:
        """Stop listening and cancel the run; None if it had not been started."""
        self._stop()
        return self._driver.complete(self._followed.cancelled())

    def close(self) -> None:
        """Stop reading without a request: a live run continues, and `cancel` still ends it."""
        self._followed.release()
        self._stop()

    def _stop(self) -> None:
        self._operation.close()
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._followed.must_cancel:
            self.close()
            return
        # The first error must not be hidden by one of `cancel`.
        with suppress(*(() if kind is None else (RunyardError,))):
            self.cancel()
