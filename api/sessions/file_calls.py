"""Pass the calls about a session's files to its worker, and answer with an entry or a stream of bytes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote_from_bytes

from flask import Response, request
from werkzeug.datastructures import MultiDict

from api.context import context
from api.errors import invalid
from api.http.body import drain
from api.http.body_pieces import body_pieces
from api.http.json_response import json_response
from api.openapi.decorator import Query
from api.sessions.worker_calls import not_refused, reached
from config.clock import rfc3339
from protocol.result import Refusal
from storage import download, media_types
from storage.names import FileName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.keys.authentication import Caller

#: The errors of a file operation.
FILE_ERRORS = (
    "file_not_found", "file_not_permitted", "not_a_file", "not_a_directory", "file_exists", "disk_full",
    "invalid_path", "missing_field", "io_error",
)  # fmt: skip
#: The same of one that a body is sent to.
BODY_ERRORS = ("incomplete_body", "request_timeout", "too_many_connections")
WHERE = Query(
    "path",
    "Relative to /work, or absolute; percent-encoded bytes.",
    {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^[^\x00]*$"},
    required=True,
)
MAX_PARAMETERS = 64


def file_query() -> MultiDict[str, str]:
    """Return the parameters of the query. Bytes that are not UTF-8 are kept, as lone surrogates.

    Raises ApiError 400 for more parameters than any call has.
    """
    text = request.query_string.decode("ascii", "surrogateescape")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_PARAMETERS)
    except ValueError as e:
        raise invalid(f"the query has more than {MAX_PARAMETERS} parameters", code="too_many") from e
    return MultiDict(pairs)


def answer(session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> Response:
    """Do a file operation without content, and answer with its entry. Raises ApiError."""
    return json_response(entry_object(operate(session_id, caller, name, arguments)["entry"]))


def operate(session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> dict[str, Any]:
    """Do a file operation without content. Raises ApiError."""
    found = reached(lambda: context().session_worker.operate(session_id, caller.id, name, arguments))
    done: dict[str, Any] = not_refused(found, session_id, caller)
    return done


def receive(session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> Response:
    """Do a file operation that takes the body as it arrives, and answer with its entry. Raises ApiError."""
    release = context().places.uploads.acquire(caller.id)
    try:
        found = reached(
            lambda: context().session_worker.send_file(session_id, caller.id, name, arguments, body_pieces())
        )
        if isinstance(found, Refusal):
            drain(request)
        return json_response(entry_object(not_refused(found, session_id, caller)))
    finally:
        release()


class Sending:
    """A file operation that gives content, from its entry until the content has been sent or given up."""

    def __init__(self, session_id: str, caller: Caller, name: str, arguments: list[bytes]) -> None:
        """Begin it. Raises ApiError."""
        with ExitStack() as held:
            held.callback(context().places.readers.acquire(caller.id))
            worker = context().session_worker
            found = reached(lambda: held.enter_context(worker.reading(session_id, caller.id, name, arguments)))
            self.entry, self._pieces = not_refused(found, session_id, caller)
            self._held = held.pop_all()

    def response(self, status: int, headers: dict[str, str], size: int | None = None) -> Response:
        """Return the answer: the content, of which no more than `size` bytes are sent."""
        body = self._pieces if size is None else exactly(self._pieces, size)
        made = Response(body, status, headers)
        made.call_on_close(self._held.close)
        return made

    def close(self) -> None:
        """Give the content up."""
        self._held.close()


def attachment_headers(path: bytes, length: int) -> dict[str, str]:
    """Return the headers of an answer of so many bytes of a file."""
    name = FileName.of(path.decode("utf-8", "replace")).name
    about = {"Accept-Ranges": "bytes", "Content-Length": str(length)}
    return download.headers(name, media_types.media_type(name, b"")) | about


def send_whole(session_id: str, caller: Caller, path: bytes) -> Response:
    """Return the answer to a GET or HEAD of a file. Raises ApiError."""
    is_head = request.method == "HEAD"
    sending = Sending(session_id, caller, "read", [path, b"0", b"0" if is_head else b""])
    size = sending.entry["size"]
    headers = attachment_headers(path, size)
    if not is_head:
        return sending.response(200, headers, size)
    sending.close()
    response = Response(b"", 200, headers)
    response.automatically_set_content_length = False
    response.headers["Content-Length"] = str(size)
    return response


def exactly(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield so many bytes of what the sandbox sends: it must not send more than was announced."""
    left = size
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def flag(value: bool | None) -> bytes:  # noqa: FBT001  # a field of a body
    """Return a flag as an operation takes it."""
    return b"1" if value else b"0"


def entry_object(found: dict[str, Any], within: bytes = b"") -> dict[str, Any]:
    """Return an entry of the API; a name that is not UTF-8 is percent-encoded."""
    name, target = (found[part].encode("latin-1") for part in ("name", "target"))
    path = within.rstrip(b"/") + b"/" + name if within else name
    shown = {
        "name": _text(name if within else name.rpartition(b"/")[2] or name),
        "path": _text(path),
        "type": found["kind"],
        "size": found["size"],
        "mode": f"{found['mode']:04o}",
        "uid": found["uid"],
        "gid": found["gid"],
        "modified_at": rfc3339(min(found["mtime_ns"] // 1_000_000, 253_402_300_799_000)),
        "target": _text(target) if found["kind"] == "symlink" else None,
    }
    return shown if _is_utf8(path) else shown | {"raw": True}


def _text(raw: bytes) -> str:
    return raw.decode() if _is_utf8(raw) else quote_from_bytes(raw)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
