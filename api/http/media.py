"""The media types of an event stream, and the choice between them by a request's Accept header."""

from __future__ import annotations

from werkzeug.datastructures import MIMEAccept

from api.errors import invalid

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


def media_type(accept: MIMEAccept) -> str:
    """Return the media type of the stream: JSON lines, or SSE if Accept prefers it. Raises ApiError 400."""
    if not accept:
        return NDJSON
    chosen = accept.best_match([NDJSON, SSE])
    if chosen is None:
        raise invalid(f"Accept: a stream is {NDJSON} or {SSE}", param="Accept", code="not_acceptable")
    return chosen
