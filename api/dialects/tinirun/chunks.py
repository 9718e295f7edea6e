"""Encode tinirun's chunks: one JSON object a line, or a server-sent event that has it as its data.

Its clients refuse a line of more than 64 KiB. A longer output comes in several chunks, and the result at the end
repeats only as much of it as there is room for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import orjson
from flask import request

from api.http.media import SSE

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON_LINES = "application/jsonl"
#: The longest line that a client reads, its newline included.
MAX_LINE_BYTES = 65_536
#: Of a text in one chunk, as JSON; what is around it is short.
MAX_TEXT_BYTES = 60_000
#: Of each output in a result, as JSON: both, and what is around them, are one line.
MAX_RESULT_TEXT_BYTES = 30_000

Media = Literal["application/jsonl", "text/event-stream"]
Text = Literal["info", "debug", "stdout", "stderr"]
Chunk = dict[str, Any]


def media_of_request() -> Media:
    """Return the media type of the answer: events if Accept names them, or else lines."""
    for value, quality in request.accept_mimetypes:
        if value.partition(";")[0].strip().lower() == SSE and quality > 0:
            return "text/event-stream"
    return "application/jsonl"


def encode(chunk: Chunk, media: Media) -> bytes:
    """Encode one chunk."""
    line = orjson.dumps(chunk)
    return b"data: %b\n\n" % line if media == SSE else line + b"\n"


def texts(event: Text, text: str) -> Iterator[Chunk]:
    """Yield a text as chunks, each short enough."""
    while text:
        part = _beginning(text, MAX_TEXT_BYTES)
        yield {"event": event, "data": part}
        text = text[len(part) :]


def result(stdout: str, stderr: str, exit_code: int | None, *, timeout: bool) -> Iterator[Chunk]:
    """Yield the chunk that ends a stream; before it one that says so if the outputs are not complete in it."""
    data: dict[str, Any] = {"stdout": stdout, "stderr": stderr, "exit_code": exit_code, "timeout": timeout}
    for name in ("stdout", "stderr"):
        whole = data[name]
        data[name] = _beginning(whole, MAX_RESULT_TEXT_BYTES)
        if len(data[name]) < len(whole):
            yield from texts(
                "info",
                f"The result has the first {len(data[name])} of {len(whole)} characters of {name}; "
                "the chunks before it have all.",
            )
    yield {"event": "result", "data": data}


def build_failed(message: str, logs: str) -> Chunk:
    """Return the chunk that ends the stream of a build that failed; its logs are cut at the front."""
    kept = logs
    while len(orjson.dumps(kept)) > MAX_TEXT_BYTES // 2:
        kept = kept[len(kept) // 4 + 1 :]
    return {"event": "error", "data": {"error": "build_failed", "message": message[:1000], "logs": kept}}


def failed(message: str) -> Chunk:
    """Return the chunk that ends the stream of a run that the service could not execute."""
    return {"event": "error", "data": {"error": "docker", "message": message[:1000]}}


def _beginning(text: str, most: int) -> str:
    """Return the longest beginning of a text, to within a character, that has at most `most` bytes as JSON."""
    if len(orjson.dumps(text)) <= most:
        return text
    low, high = 1, min(len(text), most)
    while low < high:
        middle = (low + high + 1) // 2
        if len(orjson.dumps(text[:middle])) <= most:
            low = middle
        else:
            high = middle - 1
    return text[:low]
