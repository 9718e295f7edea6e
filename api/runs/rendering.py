"""Render runs, and streams of their events, as HTTP answers that hold a place no longer than they must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from flask import Response, request

from api.context import context, next_url
from api.errors import JSON
from api.files.links import ArtifactLinkSigner
from api.http.concurrency import SMALL_BYTES
from api.http.forwarded import origin
from api.http.json_response import NEWLINE, document_response
from api.http.long_answers import stream_response
from api.http.media import NDJSON, SSE, media_type
from api.http.pagination import list_body, list_ends
from api.runs.events import encode_events
from api.runs.stored_outputs import is_in_parts
from api.runs.submission import RunSubmission, parse_idempotency_key
from dispatch import ClientGone
from dispatch.source import MessageSource
from records.runs import Run, RunBlob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.keys.authentication import Caller
    from api.runs.events import Message
    from api.runs.execution import Wait
    from api.runs.requests import RunRequest
    from api.runs.stored_outputs import Part
    from records.page import RecordPage


def run_and_answer(asked: RunRequest, caller: Caller, body: bytes, *, session_id: str | None = None) -> Response:
    """Run a request and return its answer: the ended run, its events as they happen, or the accepted run.

    `body` is what is recorded of the request, and what an Idempotency-Key is compared with.
    """
    idempotency = parse_idempotency_key(request.headers.get("Idempotency-Key"), body)
    order = RunSubmission(asked, caller, body, idempotency, session_id)
    media = media_type(request.accept_mimetypes) if asked.stream else NDJSON
    wait: Wait = "background" if asked.background else "events" if asked.stream else "result"
    source = MessageSource()
    execution = context().runs.execute(
        order, wait=wait, signer=signer(), client_fd=client_fd(), source=source if asked.stream else None
    )
    try:
        if isinstance(execution.outcome, Run):
            return _executed(execution.outcome, execution.release, status=202 if asked.background else 200)
        return events_response(execution.outcome, media, execution.release, source)
    except BaseException:
        execution.release()
        raise


def list_response(page: RecordPage[Run], sharer: str) -> Response:
    """Return a page of runs; what is in storage of them is read while it is sent."""
    following = next_url(page.cursor)
    sign = signer().document
    if any(is_in_parts(run.document) for run in page.items):
        return _in_parts(lambda: _list_parts(page, sign, following), sharer)
    rows = [(run.id, orjson.Fragment(sign(run.document))) for run in page.items]
    body = list_body(rows, has_more=page.has_more, next_url=following)
    return bytes_response(body, context().places.readers.acquire_for_response(len(body), sharer))


def recorded_response(run: Run, *, request: bytes | RunBlob | None = None, status: int = 200) -> Response:
    """Return a recorded run, with its request if that is given; parts in storage are read while they are sent."""
    sign = signer().document
    if is_in_parts(run.document) or isinstance(request, RunBlob):
        return _in_parts(lambda: context().outputs.parts(run.document, sign, request), run.owner, status=status)
    body = sign(run.document)
    if request is not None:
        body = body[:-1] + b',"request":' + request + b"}"
    return bytes_response(body, context().places.readers.acquire_for_response(len(body), run.owner), status=status)


def _list_parts(page: RecordPage[Run], sign: Callable[[bytes], bytes], following: str | None) -> list[Part]:
    ids = [run.id for run in page.items]
    before, behind = list_ends(ids, has_more=page.has_more, next_url=following)
    parts: list[Part] = []
    for run in page.items:
        parts += (b"," if parts else before, *context().outputs.parts(run.document, sign))
    return [*parts, behind]


def _in_parts(parts: Callable[[], list[Part]], sharer: str, *, status: int = 200) -> Response:
    """Return an answer of unknown length that is read from storage while it is sent, in a reader's place."""
    release = context().places.readers.acquire(sharer)
    try:
        response = Response(context().outputs.read([*parts(), NEWLINE]), status, content_type=JSON)
    except BaseException:
        release()
        raise
    response.call_on_close(release)
    return response


def _executed(run: Run, release: Callable[[], None], *, status: int) -> Response:
    """Return a run that was executed. One whose outputs are in storage is read as it is sent, in its own place."""
    if not is_in_parts(run.document):
        return run_response(run, release, status=status)
    release()
    return recorded_response(run, status=status)


def run_response(run: Run, release: Callable[[], None] | None = None, *, status: int = 200) -> Response:
    return bytes_response(signer().document(run.document), release, status=status)


def bytes_response(body: bytes, release: Callable[[], None] | None = None, *, status: int = 200) -> Response:
    """Return an answer. A held slot is released once sending it cannot block a thread."""
    response = document_response(body, status)
    if release is not None:
        if len(body) > SMALL_BYTES:
            response.call_on_close(release)
        else:
            release()
    return response


def events_response(
    messages: Iterator[Message], media: str, release: Callable[[], None], source: MessageSource | None = None
) -> Response:
    """Return a stream of events that releases its slot when either side ends it.

    With a `source`, which tells where the next event comes from, it holds no thread between two events.
    """

    def body() -> Iterator[bytes]:
        try:
            yield from encode_events(messages, media)
        except ClientGone:
            return

    content_type = f"{SSE}; charset=utf-8" if media == SSE else NDJSON
    response = stream_response(body(), source, content_type)
    response.call_on_close(release)
    return response


def client_fd() -> int | None:
    """Return the file descriptor of the waiting client's socket, where the server provides it."""
    sock = request.environ.get("gunicorn.socket")
    return None if sock is None else int(sock.fileno())


def signer() -> ArtifactLinkSigner:
    """Return the signer of links for this request's answer; it may be used after the request has ended."""
    found = context()
    public = found.settings.public_base_url
    return ArtifactLinkSigner(found.links, public or origin(request.scheme, request.headers.get("Host", "")))
