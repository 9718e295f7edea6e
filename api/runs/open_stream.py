"""A run, or the build of a function, whose events are waited for: what a dialect makes its own stream of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.context import context
from api.http.long_answers import stream_response
from api.runs.rendering import client_fd, signer
from api.runs.submission import RunSubmission
from dispatch import ClientGone
from dispatch.source import NOTHING_YET, MessageSource
from records.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Response

    from api.keys.authentication import Caller
    from api.runs.events import Message
    from api.runs.execution import Execution
    from api.runs.requests import RunRequest


@dataclass(frozen=True, slots=True)
class OpenStream:
    """The events of a run under way. Hand it to `answer`; a client that goes away cancels the run."""

    _messages: Iterator[Message]
    _release: Callable[[], None]
    _source: MessageSource

    @property
    def messages(self) -> Iterator[Message | None]:
        """Yield each event; None where nothing has come yet. They end when the client has gone."""
        try:
            for message in self._messages:
                yield None if message is NOTHING_YET else message
        except ClientGone:
            return

    def answer(self, pieces: Iterator[bytes], content_type: str) -> Response:
        """Return an answer made of the events; it gives its place back when either side ends it.

        A piece without bytes means that nothing has come yet.
        """
        response = stream_response(pieces, self._source, content_type)
        response.call_on_close(self._release)
        return response


def open_stream(start: Callable[[MessageSource], Execution]) -> OpenStream:
    """Return the events of what `start` starts, which is given where they come from. Raises as it does."""
    source = MessageSource()
    execution = start(source)
    if isinstance(execution.outcome, Run):
        execution.release()
        raise TypeError("the events were not waited for")
    return OpenStream(execution.outcome, execution.release, source)


def stream_run(asked: RunRequest, caller: Caller, body: bytes) -> OpenStream:
    """Start a run and return its events; `body` is what is recorded of it. Raises ApiError, ClientGone."""
    submission = RunSubmission(asked, caller, body)
    return open_stream(
        lambda source: context().runs.execute(
            submission, wait="events", signer=signer(), client_fd=client_fd(), source=source
        )
    )
