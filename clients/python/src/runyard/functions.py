"""`client.functions`: named programs that are built once and called with JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

from runyard._function_calls import CallOptions, FunctionOperations, FunctionOptions
from runyard._sync import EventStream

if TYPE_CHECKING:
    from runyard._steps import Notice
    from runyard.client import Client
    from runyard.function_models import Function
    from runyard.models import Page, Run


class Functions:
    """`client.functions`: deploying functions, calling them, and deleting them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operations = FunctionOperations(client._operations.policy)
        self._do = client._do

    def deploy(
        self, name: str, language: str, code: str | None = None, **options: Unpack[FunctionOptions]
    ) -> Function:
        """Deploy the next version of a function and wait for its build; `state` and `log` say how that ended."""
        return self._do(self._operations.deploy(name, language, code, options))

    def call(self, name: str, value: object = None, **options: Unpack[CallOptions]) -> Run:
        """Call a function with any JSON and wait for its end; `output` of the run is what it returned.

        The service cancels the run if the connection breaks meanwhile.
        """
        return self._do(self._operations.call(name, value, options))

    def start(self, name: str, value: object = None, **options: Unpack[CallOptions]) -> Run:
        """Call a function in the background; see `client.runs.wait`."""
        return self._do(self._operations.start(name, value, options))

    def stream(
        self, name: str, value: object = None, *, notice: Notice | None = None, **options: Unpack[CallOptions]
    ) -> EventStream:
        """Call a function and iterate over the events of the run; use it in a `with`, as `client.runs.stream`."""
        return EventStream(self._client._driver(), self._operations.stream(name, value, options, notice))

    def get(self, name: str, version: int | None = None) -> Function:
        """Return a version of a function, by default the newest that is ready."""
        return self._do(self._operations.get(name, version))

    def list(
        self, *, limit: int | None = None, after: str | None = None, order: str | None = None
    ) -> Page[Function]:
        """Return a page of this key's functions."""
        return self._do(self._operations.page(limit, after, order))

    def iterate(self, *, order: str | None = None) -> Iterator[Function]:
        """Iterate over all of this key's functions, page by page."""
        after: str | None = None
        more = True
        while more:
            page = self.list(limit=100, after=after, order=order)
            yield from page.data
            more, after = page.has_more and page.last_id is not None, page.last_id

    def delete(self, name: str) -> None:
        """Delete a function with all its versions."""
        self._do(self._operations.delete(name))
