"""A client that is attached to a process: its messages as frames for the worker, and the reverse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from api.errors import ApiError, invalid
from api.http.body import parse_object
from api.http.signals import signal_number
from api.sessions.process_requests import parse_size
from protocol import attach
from protocol.attach import AttachBroken, AttachParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.websockets.wire import Wire

#: The longest messages of a client.
MOST_TEXT = 4096
MOST_BYTES = 1024 * 1024
INTERNAL_ERROR = 1011


class AttachedClient:
    """The conversation of a WebSocket with a process; see `api.websockets.poller`."""

    def __init__(self, *, has_terminal: bool, release: Callable[[], None]) -> None:
        """Without a terminal, `has_terminal`, output has its stream in front. `release` gives the place back."""
        self.outgoing = bytearray()
        self._prefixes = {attach.STDOUT: b"", attach.STDERR: b""}
        if not has_terminal:
            self._prefixes = {attach.STDOUT: b"\x01", attach.STDERR: b"\x02"}
        self._release = release
        self._parser = AttachParser(attach.FROM_WORKER)

    def on_message(self, message: str | bytes, wire: Wire) -> None:
        """Pass input and control messages on; a text that is none is answered by an error."""
        if isinstance(message, bytes):
            self.outgoing += attach.encode(attach.INPUT, message)
            return
        try:
            self.outgoing += control_frame(message)
        except ApiError as e:
            wire.send_text(json.dumps({"type": "error", "message": e.error.message}))

    def on_bytes(self, data: bytes, wire: Wire) -> None:
        """Pass output and the worker's own messages on."""
        try:
            frames = self._parser.feed(data)
        except AttachBroken:
            wire.close(INTERNAL_ERROR, "the service failed")
            return
        for kind, payload in frames:
            if kind == attach.TEXT:
                wire.send_text(payload.decode("utf-8", "replace"))
            elif kind == attach.CLOSE:
                wire.close(*attach.decode_close(payload))
            else:
                wire.send_bytes(self._prefixes[kind] + payload)

    def on_close(self) -> None:
        """Give the place back."""
        self._release()


def control_frame(text: str) -> bytes:
    """Return the frame for a client's text message. Raises ApiError 400 for one that is none."""
    message = parse_object(text.encode())
    kind = message.pop("type", None)
    if kind == "resize":
        return attach.encode(attach.RESIZE, parse_size(message).encode())
    if kind == "signal":
        return attach.encode(attach.SIGNAL, b"%d" % signal_number(message))
    if kind == "close_stdin" and not message:
        return attach.encode(attach.INPUT_END)
    raise invalid("type: must be resize, signal or close_stdin", param="type")
