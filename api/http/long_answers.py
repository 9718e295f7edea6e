"""Answers that take long, between whose pieces the server may give their thread to another request.

A `LongResponse` has its pieces one by one, as they happen; a `LateResponse` is made as a whole when what it depends
on has come. Either has a `MessageSource`, which tells the server when to go on. A server that cannot wait without
a thread iterates over a long response as over any other, and never sees a late one.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, current_app, g, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from dispatch.source import MessageSource

#: Environ key of the server's function that returns whether a source has something, now or in a moment. It is there
#: if the server waits without a thread for those that have nothing.
HAS_MORE_KEY = "runyard.has_more"


class LongAnswer:
    """The pieces of an answer, and where the next one comes from. An empty piece is none: nothing has come yet."""

    def __init__(self, pieces: Iterable[bytes], source: MessageSource) -> None:
        """Take over the pieces, which are closed with this."""
        self._pieces = pieces
        self._iterator = iter(pieces)
        self.source = source

    def __iter__(self) -> Iterator[bytes]:
        return (piece for piece in self._iterator if piece)

    def take(self) -> bytes | None:
        """Return the next piece, None behind the last one. Called when the source has something, or anything."""
        return next(self._iterator, None)

    def close(self) -> None:
        """End what makes the pieces."""
        cast("Any", self._pieces).close()


class LongResponse(Response):
    """A response whose pieces come from a source."""

    def __init__(self, pieces: Iterable[bytes], source: MessageSource, *, content_type: str) -> None:
        super().__init__(pieces, content_type=content_type)
        self._source = source

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return what the server sends, in a form that it can suspend."""
        found = super().get_app_iter(environ)
        return found if environ["REQUEST_METHOD"] == "HEAD" else LongAnswer(found, self._source)


def stream_response(pieces: Iterable[bytes], source: MessageSource | None, content_type: str) -> Response:
    """Return a stream; without a source it is one that holds its thread."""
    if source is None:
        response = Response(pieces, content_type=content_type)
    else:
        response = LongResponse(pieces, source, content_type=content_type)
    response.headers["X-Accel-Buffering"] = "no"  # a proxy in front must not buffer the stream
    return response


class LateAnswer:
    """An answer of which nothing is known before its source has something."""

    def __init__(
        self,
        environ: WSGIEnvironment,
        source: MessageSource,
        finish: Callable[[], Response],
        close: Callable[[], None],
    ) -> None:
        """Keep what belongs to this request, for the thread that goes on with it."""
        self.source = source
        self._environ = environ
        self._finish = finish
        self._app: Flask = cast("Any", current_app)._get_current_object()
        self._kept = {name: g.get(name) for name in g}
        self._resources = ExitStack()
        self._resources.callback(close)

    def __iter__(self) -> Iterator[bytes]:
        raise TypeError("this answer is not made yet")

    def finish(self, start_response: StartResponse) -> Iterable[bytes]:
        """Make the answer as the application would have: errors and headers included."""
        app = self._app
        with app.request_context(self._environ):
            for name, value in self._kept.items():
                setattr(g, name, value)
            try:
                made: Any = self._finish()
            except Exception as e:  # noqa: BLE001  # the application's own handlers decide
                made = app.handle_user_exception(e)
            response = app.finalize_request(made)
            self._resources.callback(response.close)
            return response(self._environ, start_response)

    def close(self) -> None:
        """Release what is held. May be called more than once."""
        self._resources.close()


class LateResponse(Response):
    """A response in whose place another one is sent when its source has something."""

    def __init__(self, source: MessageSource, finish: Callable[[], Response], close: Callable[[], None]) -> None:
        super().__init__()
        self._source, self._finish_later, self._give_back = source, finish, close

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the answer that the server waits for."""
        return LateAnswer(environ, self._source, self._finish_later, self._give_back)


def answer_when_ready(source: MessageSource, finish: Callable[[], Response], close: Callable[[], None]) -> Response:
    """Return what `finish` returns, which may wait for `source`; without a thread, where the server can.

    `close` releases what is held; it is called in any case. Raises as `finish` does.
    """
    has_more: Callable[[MessageSource], bool] | None = request.environ.get(HAS_MORE_KEY)
    if has_more is not None and request.method != "HEAD" and not has_more(source):
        return LateResponse(source, finish, close)
    try:
        return finish()
    finally:
        close()
