"""Large outputs of a run: stored as blobs by the worker, so that a record need not hold them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import orjson

from config.pieces import PIECE_BYTES
from protocol.job import MAX_RECORD_BYTES
from protocol.result import OutputBlob
from storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.blobs import BlobWriter

Part = Literal["stdout", "stderr", "results", "output"]
log = logging.getLogger(__name__)


def store_outputs(
    storage: BlobWriter,
    stdout: str,
    stderr: str,
    results: Sequence[orjson.Fragment] = (),
    output: str | None = None,
) -> tuple[OutputBlob, ...]:
    """Store each output of more than `MAX_RECORD_BYTES`. One that cannot be stored now is kept in the record."""
    texts: tuple[tuple[Part, str], ...] = (("stdout", stdout), ("stderr", stderr), ("output", output or ""))
    stored = [
        _stored(storage, part, text.encode())
        for part, text in texts
        if len(text) * 4 > MAX_RECORD_BYTES  # of any text, without counting
    ]
    if results:
        stored.append(_stored(storage, "results", orjson.dumps(list(results))))
    return tuple(blob for blob in stored if blob is not None)


def _stored(storage: BlobWriter, part: Part, data: bytes) -> OutputBlob | None:
    if len(data) <= MAX_RECORD_BYTES:
        return None
    try:
        with storage.writer(len(data)) as writer:
            for start in range(0, len(data), PIECE_BYTES):
                writer.write(memoryview(data)[start : start + PIECE_BYTES])
            blob = writer.commit()
    except StorageError as e:
        log.warning("an output cannot be stored: %s", e, extra={"cause": repr(e.__cause__)})
        return None
    return OutputBlob(part, blob.sha256, blob.size)
