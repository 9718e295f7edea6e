"""The source of a version, read from its record or from storage, and kept in memory while it is called often."""

from __future__ import annotations

import base64
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import orjson

from api.functions.handlers import LANGUAGES, Call, Source
from config.pieces import PIECE_BYTES
from protocol.function import PROGRAM_PATH
from protocol.job import MAX_RECORD_BYTES, JobFile, JobInput
from records.functions import FunctionBlob
from storage import Blob

if TYPE_CHECKING:
    from api.functions.schema import InputSchema
    from records.functions import FunctionVersion
    from storage import BlobStore

#: Versions that are kept ready to be called, and the most bytes of their files together.
MOST_KEPT = 256
MOST_KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A version that can be called, with its input schema if it has one."""

    call: Call
    schema: InputSchema | None

    @property
    def size(self) -> int:
        """Return the bytes of its files."""
        return sum(len(file.content) for file in self.call.source.files)


class Sources:
    """Stores and reads the sources of versions. Safe for many threads."""

    def __init__(self, uploads: BlobStore) -> None:
        self._uploads = uploads
        self._lock = Lock()
        #: By the id of their build, which no other version has; the one used last is the last.
        self._kept: OrderedDict[str, PreparedCall] = OrderedDict()
        self._kept_bytes = 0

    def store(self, source: bytes) -> FunctionBlob | None:
        """Store a source that is too large for a record. Raises StorageUnavailable.

        If its version is not recorded after that, nothing names the blob, and the sweep removes it.
        """
        if len(source) <= MAX_RECORD_BYTES:
            return None
        pieces = (source[at : at + PIECE_BYTES] for at in range(0, len(source), PIECE_BYTES))
        stored = self._uploads.put(pieces, len(source))
        return FunctionBlob("source", "upload", stored.sha256, stored.size)

    def read(self, version: FunctionVersion) -> bytes:
        """Return the source of a version. Raises StorageUnavailable, BlobMissing, BlobDamaged."""
        blob = version.blob("source")
        if blob is None:
            return version.source
        with self._uploads.open(Blob(blob.sha256, blob.size)) as content:
            return b"".join(content)

    def prepared(self, version: FunctionVersion) -> PreparedCall:
        """Return a ready version as it is called. Raises StorageUnavailable, BlobMissing, BlobDamaged."""
        key = version.build_run_id
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        made = prepare(version, self.read(version))
        if made.size <= MOST_KEPT_BYTES // 8:
            self._keep(key, made)
        return made

    def _keep(self, key: str, made: PreparedCall) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = made
            self._kept_bytes += made.size
            while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.size


def prepare(version: FunctionVersion, source: bytes) -> PreparedCall:
    """Return a version as it is called, or built."""
    document, given = orjson.loads(version.document), orjson.loads(source)
    program = version.blob("program")
    call = Call(
        name=version.name,
        version=version.version,
        source=Source(version.language, document["handler"], _files(version.language, given)),
        limits=document["limits"],
        env=document["env"],
        packages=tuple(document["packages"]),
        program=None if program is None else JobInput(PROGRAM_PATH, "artifact", program.sha256, program.size),
    )
    if document["input_schema"] is None:
        return PreparedCall(call, None)
    from api.functions.schema import InputSchema  # see `requests.parse_function`

    return PreparedCall(call, InputSchema(document["input_schema"]))


def _files(language: str, given: dict[str, Any]) -> tuple[JobFile, ...]:
    files = tuple(JobFile(file["path"], _content(file)) for file in given["files"] or ())
    if given["code"] is None:
        return files
    return (JobFile(LANGUAGES[language].file, given["code"].encode()), *files)


def _content(file: dict[str, Any]) -> bytes:
    content: str = file["content"]
    return base64.b64decode(content) if file.get("encoding") == "base64" else content.encode()
