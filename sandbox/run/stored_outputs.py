"""Large outputs of a run: stored as blobs by the worker, so that a record need not hold them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from config.pieces import PIECE_BYTES
from protocol.job import MAX_RECORD_BYTES
from protocol.result import OutputBlob
from storage.errors import StorageError

if TYPE_CHECKING:
    from sandbox.blobs import BlobWriter

log = logging.getLogger(__name__)


def store_outputs(storage: BlobWriter, stdout: str, stderr: str) -> tuple[OutputBlob, ...]:
    """Store each output of more than `MAX_RECORD_BYTES`. One that cannot be stored now is kept in the record."""
    stored = (_stored(storage, "stdout", stdout), _stored(storage, "stderr", stderr))
    return tuple(blob for blob in stored if blob is not None)


def _stored(storage: BlobWriter, part: Literal["stdout", "stderr"], text: str) -> OutputBlob | None:
    if len(text) * 4 <= MAX_RECORD_BYTES:  # of any text, without counting
        return None
    data = text.encode()
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
