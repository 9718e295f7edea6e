"""The output of a process as a client gets it: whole, as text or base64, or as events."""

from __future__ import annotations

import base64
import codecs
import time
from typing import TYPE_CHECKING, Any, Literal

import orjson

from api.errors import invalid
from dispatch import ClientGone, WorkerLost, WorkerUnavailable
from dispatch.source import NOTHING_YET
from protocol.result import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Encoding = Literal["text", "base64"]
ENCODINGS: tuple[Encoding, ...] = ("text", "base64")
ENCODING_SCHEMA = {"type": "string", "enum": list(ENCODINGS), "default": "text"}
#: Seconds after which a stream is ended; its client may ask for another.
MAX_STREAM_S = 3600


def parse_encoding(arguments: Mapping[str, str]) -> Encoding:
    """Return how output is to be written, of a query. Raises ApiError 400."""
    given = arguments.get("encoding", "text")
    for known in ENCODINGS:
        if given == known:
            return known
    raise invalid("encoding: must be text or base64", param="encoding")


def with_output(process: dict[str, Any], encoding: Encoding) -> dict[str, Any]:
    """Return the process with what is kept of its output, if it has ended."""
    outputs = {name: process.pop(name) for name in ("stdout", "stderr")}
    cut = process.pop("truncated")
    process.pop("kept_bytes")
    if process["status"] != "ended":
        return process
    if encoding == "text":
        outputs = {name: base64.b64decode(data).decode("utf-8", "replace") for name, data in outputs.items()}
    return process | outputs | {"stdout_truncated": cut, "stderr_truncated": cut}


def event_lines(first: dict[str, Any], messages: Iterator[Any], encoding: Encoding) -> Iterator[bytes]:
    """Yield the events that a worker sends, each as one line of JSON; nothing more once the client has gone."""
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
    began = time.monotonic()
    message: Any = first
    while not isinstance(message, Refusal):
        if message is not NOTHING_YET:
            yield orjson.dumps(_event(message, decoders, encoding), option=orjson.OPT_APPEND_NEWLINE)
            if "event" not in message or time.monotonic() - began > MAX_STREAM_S:
                return
        else:
            yield b""  # nothing yet
        try:
            message = next(messages)
        except (StopIteration, WorkerUnavailable, WorkerLost, ClientGone):
            return


def _event(message: dict[str, Any], decoders: dict[str, Any], encoding: Encoding) -> dict[str, Any]:
    kind = message.get("event")
    if kind is None:
        return {"event": "result", "data": message["process"]}
    data: Any = None
    if kind == "info":
        data = message.get("process", {}) | {"dropped_bytes": message["dropped_bytes"]}
    elif kind != "keepalive":
        raw = message["data"]
        data = base64.b64encode(raw).decode() if encoding == "base64" else decoders[kind].decode(raw)
    return {"seq": message["seq"], "event": kind, "data": data, "t_ms": message["t_ms"]}
