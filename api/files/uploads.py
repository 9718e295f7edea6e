"""An upload as it arrives: a multipart body whose one file goes to storage piece by piece.

The parts may come in any order, and the file's bytes are never held whole. A body that is refused is read on
within bounds, so that its sender gets to reading why.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self, cast

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData, Preamble

from api.errors import ApiError, invalid
from api.http.body import arrival, drain
from api.http.field_names import FieldNames
from api.http.validation import unknown_field
from config.pieces import PIECE_BYTES
from storage.errors import BlobTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Request
    from werkzeug.sansio.multipart import Event

    from storage import Blob, Writer

#: Longest headers of a part, without the bytes that arrived with them.
HEADERS_BYTES = 16 * 1024
#: Largest size of a body without the file.
OVERHEAD_BYTES = 64 * 1024
MAX_PARTS = 8
MAX_PURPOSE_BYTES = 64
#: A sender slower than this, after a while to begin with, is given up: it holds a thread.
SLOWEST_BYTES_PER_S = 64 * 1024
BEGIN_S = 60.0
#: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
_NAMES = FieldNames(
    {"": ("file", "purpose")},
    {"": dict.fromkeys(("upload", "data", "content", "document", "attachment", "blob", "image"), "file")},
)
_PURPOSE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is in storage: the name its sender gave it, and its first bytes."""

    given_name: str
    head: bytes
    blob: Blob
    purpose: str | None


def receive(request: Request, begin: Callable[[int], Writer], *, max_bytes: int) -> Upload:
    """Store the file of a multipart request. `begin` makes a writer of at most so many bytes.

    Raises ApiError 400, 413 or 415, StorageUnavailable, and BlobTooLarge where the file has more than `max_bytes`;
    nothing is stored then.
    """
    try:
        boundary = _boundary(request)
        length = _length(request, max_bytes)
        arrival(request, BEGIN_S + length / SLOWEST_BYTES_PER_S)
        with _MultipartReceiver(begin, max_bytes) as receipt:
            for event in _events(request, boundary, max_bytes + OVERHEAD_BYTES):
                receipt.take(event)
            arrival(request, None)
            return receipt.upload()
    except Exception:
        drain(request)
        raise


class _MultipartReceiver:
    """The state of an upload. As a context manager it discards bytes that did not become an upload."""

    def __init__(self, begin: Callable[[int], Writer], max_bytes: int) -> None:
        self._begin = begin
        self._max_bytes = max_bytes
        self._name: str | None = None
        self._writer: Writer | None = None
        self._purpose: bytearray | None = None
        self._into: Callable[[bytes], None] = _discard
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def take(self, event: Event) -> None:
        """Process the next event of the body."""
        if isinstance(event, File):
            self._file(event)
        elif isinstance(event, Field):
            self._field(event)
        elif isinstance(event, Data):
            self._into(event.data)

    def upload(self) -> Upload:
        """Turn the completely received body into a blob."""
        if self._writer is None or self._name is None:
            raise invalid("file: is required", param="file", code="missing_field")
        purpose = None if self._purpose is None else self._purpose.decode("utf-8", "replace")
        if purpose is not None and not _PURPOSE.fullmatch(purpose):
            raise invalid("purpose: must be 1 to 64 of A-Z a-z 0-9 _ . -", param="purpose")
        head = self._writer.head
        return Upload(self._name, head, self._writer.commit(), purpose)

    def _file(self, event: File) -> None:
        if event.name != "file":
            raise _unknown(event.name)
        if self._writer is not None:
            raise invalid("file: send one file per request", param="file", code="too_many")
        if not event.filename:
            raise invalid("file: must have a filename", param="file", code="missing_field")
        self._name = event.filename
        self._writer = self._held.enter_context(self._begin(self._max_bytes))
        self._into = self._writer.write

    def _field(self, event: Field) -> None:
        if event.name == "file":
            raise invalid("file: must be sent as a file, with a filename", param="file", code="missing_field")
        if event.name != "purpose":
            raise _unknown(event.name)
        if self._purpose is not None:
            raise invalid("purpose: is given twice", param="purpose")
        self._purpose = bytearray()
        self._into = self._more_purpose

    def _more_purpose(self, data: bytes) -> None:
        assert self._purpose is not None
        self._purpose += data
        if len(self._purpose) > MAX_PURPOSE_BYTES:
            raise invalid("purpose: must be 1 to 64 of A-Z a-z 0-9 _ . -", param="purpose")


def _boundary(request: Request) -> bytes:
    """Return the boundary that the header names. Raises ApiError 400 or 415."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise ApiError(
            415,
            "The body must not be compressed.",
            code="unsupported_content_encoding",
            param="Content-Encoding",
        )
    kind, options = parse_options_header(request.headers.get("Content-Type"))
    if kind.lower() != "multipart/form-data":
        raise ApiError(
            415,
            "The body must be multipart/form-data with the file as 'file'.",
            code="unsupported_media_type",
            param="Content-Type",
        )
    boundary = options.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _malformed("Content-Type names no boundary.")
    return boundary.encode()


def _length(request: Request, max_bytes: int) -> int:
    """Return the declared length of the body, or None. Raises BlobTooLarge."""
    most = max_bytes + OVERHEAD_BYTES
    length = most if request.content_length is None else request.content_length
    if length > most:
        raise BlobTooLarge(max_bytes)
    return length


def _events(request: Request, boundary: bytes, max_bytes: int) -> Iterator[Event]:
    """Yield the parts of the body and their bytes as they arrive."""
    decoder = MultipartDecoder(boundary, PIECE_BYTES + HEADERS_BYTES, max_parts=MAX_PARTS)
    stream = cast("IO[bytes]", request.environ["wsgi.input"])
    left = request.content_length if request.content_length is not None else max_bytes + 1
    chunked = "HTTP_TRANSFER_ENCODING" in request.environ
    if request.content_length is None and not chunked:
        left = 0
    try:
        while True:
            event = decoder.next_event()
            if isinstance(event, Epilogue):
                return
            if not isinstance(event, NeedData):
                if not isinstance(event, Preamble):
                    yield event
                continue
            data = _read(stream, min(left, PIECE_BYTES)) if left else b""
            left -= len(data)
            if left == 0 and request.content_length is None and chunked and data:
                raise BlobTooLarge(max_bytes)
            if not data and left and request.content_length is not None:
                raise ApiError(400, "The body ended before its Content-Length.", code="incomplete_body")
            decoder.receive_data(data or None)
    except (RequestEntityTooLarge, ValueError, AttributeError) as e:
        # Of the decoder: headers too long, too many parts, an end too early, what is no part at all.
        raise _malformed("The body is not well-formed multipart/form-data.") from e


def _read(stream: IO[bytes], most: int) -> bytes:
    try:
        return stream.read(most)
    except Exception as e:
        # A malformed chunk, or a client that disconnected: each exception of the server is a fault of the body.
        raise ApiError(400, "The body could not be read.", code="incomplete_body") from e


def _discard(_data: bytes) -> None:
    """Discard bytes that belong to no part."""


def _unknown(name: str | None) -> ApiError:
    message = unknown_field((name or "",), _NAMES).error.message
    return invalid(message, code="unknown_field")


def _malformed(message: str) -> ApiError:
    return invalid(message, code="invalid_multipart")
