"""Runs with what is too large for a record: outputs that the worker has stored, requests that api stores itself.

A document whose outputs are in storage has them empty, and ends with a list of the blobs. No other document ends
like that: its last field is `error`.
"""

from __future__ import annotations

import codecs
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from config.pieces import PIECE_BYTES
from protocol.job import MAX_RECORD_BYTES
from records.runs import RunBlob
from storage import Blob
from storage.errors import BlobDamaged, BlobMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from records.runs import Run
    from storage import BlobReader, BlobStore
    from storage.areas import ApiAreas

log = logging.getLogger(__name__)

_FIELD = "_blobs"
_MARK = b"]}"
#: The placeholder in a document of a stored part that is no text.
_NOTHING = {"results": b"[]", "output": b"null"}
#: The mark of a part whose bytes are lost, where that is not `…_truncated`.
_LOST: dict[str, dict[str, Any]] = {"results": {"results_dropped": 1}, "output": {"output": None}}
#: So many characters are escaped at a time: a control character is six bytes in JSON.
TEXT_CHARACTERS = PIECE_BYTES // 6
#: Seconds for which a blob found damaged during an answer is reported as lost, and the most such blobs.
LOST_S = 600.0
LOST_MOST = 1000


def store_request(uploads: BlobStore | None, body: bytes) -> RunBlob | None:
    """Store a request that is too large for a record, where there is a store. Raises StorageUnavailable.

    If its run is not recorded after that, nothing names the blob, and the sweep removes it.
    """
    if uploads is None or len(body) <= MAX_RECORD_BYTES:
        return None
    stored = uploads.put((body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)), len(body))
    return RunBlob("request", "upload", stored.sha256, stored.size)


def marked(document: bytes, blobs: Sequence[RunBlob]) -> bytes:
    """Return the document as it is kept, whose outputs that are those blobs are empty already."""
    named = orjson.dumps([[blob.part, blob.sha256, blob.size] for blob in blobs])
    return b'%s,"%s":%s}' % (document[:-1], _FIELD.encode(), named)


def is_in_parts(document: bytes) -> bool:
    """Return whether outputs of this document are in storage."""
    return document.endswith(_MARK)


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of an answer that is in storage: as it is, or as what stands inside a JSON string."""

    reader: BlobReader
    blob: Blob
    is_text: bool


Part = bytes | StoredPart


class Outputs:
    """Inserts stored outputs into a run document: in memory, or piece by piece while it is sent."""

    def __init__(self, storage: ApiAreas) -> None:
        self._storage = storage
        #: The time until which a blob that was found damaged is reported as lost.
        self._lost_until: dict[str, float] = {}

    def whole(self, run: Run) -> Run:
        """Return the run with its whole document in memory. Raises StorageUnavailable."""
        while is_in_parts(run.document):
            with suppress(BlobMissing, BlobDamaged):  # reported as lost from now on
                run = replace(run, document=b"".join(self.read(self.parts(run.document))))
        return run

    def parts(
        self,
        document: bytes,
        sign: Callable[[bytes], bytes] = bytes,
        request: bytes | RunBlob | None = None,
    ) -> list[Part]:
        """Return the parts of an answered document, the first and the last in memory.

        `sign` is applied to the recorded document; `request` is the request body, if it is included. An output
        whose bytes are lost is empty and marked as truncated; the rest of the run is complete. Raises
        StorageUnavailable, and BlobMissing for the request.
        """
        parts: list[Part] = []
        rest, outputs = self._outputs(document) if is_in_parts(document) else (document, [])
        rest = sign(rest)
        for name, blob in outputs:
            # No text stands in front of them but texts of these names: inside one a quotation mark is escaped.
            nothing = _NOTHING.get(name, b'""')
            is_text = name not in _NOTHING
            empty = b'"%b":%b' % (name.encode(), nothing)
            end = rest.index(empty) + len(empty)
            before, behind = (end - 1, end - 1) if is_text else (end - len(nothing), end)
            parts += (rest[:before], StoredPart(self._storage.artifacts, blob, is_text=is_text))
            rest = rest[behind:]
        if request is None:
            return [*parts, rest]
        return [*parts, rest[:-1] + b',"request":', self._request(request), b"}"]

    def read(self, parts: Iterable[Part]) -> Iterator[bytes]:
        """Yield what those parts are, in pieces that are worth sending, each read when it is asked for.

        Raises BlobMissing, BlobDamaged or StorageUnavailable: then the last bytes of that part are not yielded.
        """
        held: list[bytes] = []
        size = 0
        for part in parts:
            for piece in (part,) if isinstance(part, bytes) else self._read(part):
                held.append(piece)
                size += len(piece)
                if size >= PIECE_BYTES:
                    joined = b"".join(held)
                    held.clear()
                    size = 0
                    yield joined
        yield b"".join(held)

    def _outputs(self, document: bytes) -> tuple[bytes, list[tuple[str, Blob]]]:
        """Return the document without its list of blobs, and those that are there, as they stand in it."""
        data: dict[str, Any] = orjson.loads(document)
        found: list[tuple[str, Blob]] = []
        for name, sha256, size in data.pop(_FIELD, ()):
            blob = Blob(sha256, size)
            if self._is_there(self._storage.artifacts, blob):
                found.append((name, blob))
            else:
                log.warning("an output is not what was stored: %s", sha256, extra={"run_id": data.get("id")})
                data |= _LOST.get(name) or {f"{name}_truncated": True}
        return orjson.dumps(data), found

    def _request(self, request: bytes | RunBlob) -> Part:
        if isinstance(request, bytes):
            return request
        blob = Blob(request.sha256, request.size)
        if not self._is_there(self._storage.uploads, blob):
            raise BlobMissing(blob.sha256)
        return StoredPart(self._storage.uploads, blob, is_text=False)

    def _is_there(self, reader: BlobReader, blob: Blob) -> bool:
        if self._lost_until.get(blob.sha256, 0.0) > time.monotonic():
            return False
        try:
            found = reader.stat(blob.sha256)
        except BlobDamaged:
            return False
        return found is not None and found.blob == blob

    def _read(self, part: StoredPart) -> Iterator[bytes]:
        try:
            with part.reader.open(part.blob) as content:
                yield from escaped(content) if part.is_text else content
        except (BlobMissing, BlobDamaged):
            if len(self._lost_until) >= LOST_MOST:
                self._lost_until.clear()
            self._lost_until[part.blob.sha256] = time.monotonic() + LOST_S
            raise


def escaped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what stands inside the JSON string of a text whose UTF-8 these pieces are.

    Raises UnicodeDecodeError after yielding the pieces before the invalid bytes.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    for piece in pieces:
        text = decode(piece)
        for at in range(0, len(text), TEXT_CHARACTERS):
            yield orjson.dumps(text[at : at + TEXT_CHARACTERS])[1:-1]
    decode(b"", final=True)
