"""Artifacts as they arrive from a sandbox: claims to be bounded, hashed and named, never paths to open.

Bytes go to storage as their frames arrive (`Receiver`), and become blobs after the sandbox's last frame
(`Receiver.store`): files that cannot be stored are listed as skipped, and the run's status does not change.
"""

from __future__ import annotations

import logging
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from config.ids import new_id
from protocol.function import MAX_OUTPUT_BYTES
from protocol.job import MAX_ARTIFACTS_BYTES, MAX_SKIPPED_LISTED, path_problem
from protocol.limits import Limits
from protocol.result import Artifact
from sandbox import frames
from sandbox.agent_client.output_file import OUTPUT, OutputFile
from sandbox.blobs import BlobWriter
from sandbox.frames import ProtocolError
from storage import Writer, media_types, names
from storage.errors import StorageError, StorageUnavailable

log = logging.getLogger(__name__)

REASONS = frozenset(
    {"symlink", "special_file", "too_large", "too_many", "too_deep", "bad_name", "unreadable", "changed"}
)
#: The one reason that the host gives: there was no room, or no storage.
NOT_STORED = "not_stored"
#: Commits of one run at a time: most of each is waiting for a disk or a server.
COMMIT_THREADS = 8


class Receiver:
    """Takes the artifact frames of one run, in order. Raises ProtocolError where an honest agent would not go.

    Received bytes must be stored by `store` or released by `abort`.
    """

    def __init__(self, limits: Limits, blobs: BlobWriter, output: OutputFile | None = None) -> None:
        """`output` takes the file with a function's output; None for a run that is no call."""
        self._limits = limits
        self._output = output
        self._blobs = blobs
        self._received = 0
        self._files = 0
        self._open: _Open | None = None
        self._complete: list[_Complete] = []
        self.artifacts: list[Artifact] = []
        self.skipped: list[dict[str, str]] = []
        self.skipped_count = 0
        self._skips_said = 0

    def begin(self, payload: bytes) -> None:
        """Begin a file, given its path and size."""
        self.close()
        raw, digits = frames.unpack(payload, 2)
        size = frames.number(digits)
        if self._output is not None and raw == OUTPUT:
            self._output.begin(size)
            return
        self._files += 1
        self._received += size
        beyond = self._beyond(size)
        if beyond is not None and self._output is None:
            raise ProtocolError("an artifact beyond the limits")
        if self._received > MAX_ARTIFACTS_BYTES + MAX_OUTPUT_BYTES:
            raise ProtocolError("artifacts beyond the limits")
        keep = beyond is None and _clean_path(raw) is not None
        self._open = _Open(raw, size, self._writer(size) if keep else None, beyond or NOT_STORED)

    def data(self, payload: bytes) -> None:
        """Append bytes to the file that was begun last."""
        file = self._open
        if file is None and self._output is not None and self._output.missing:
            self._output.data(payload)
            return
        if file is None or len(payload) > file.missing:
            raise ProtocolError("artifact bytes that were not announced")
        file.missing -= len(payload)
        if file.writer is not None:
            try:
                file.writer.write(payload)
            except StorageError as e:
                file.writer = None
                _log_failure(e)

    def skip(self, payload: bytes) -> None:
        """Note a file that the agent left out, and the reason."""
        raw, reason = frames.unpack(payload, 2)
        text = reason.decode("ascii", "replace")
        self._skips_said += 1
        if text not in REASONS or self._skips_said > MAX_SKIPPED_LISTED:
            raise ProtocolError("a skipped artifact that cannot be")
        if self._output is not None and raw == OUTPUT:
            self._output.skipped = text
            return
        self._skip(raw, text)

    def end(self, payload: bytes) -> None:
        """Note the end of the artifacts; `payload` is the number of files left out."""
        self.close()
        self.skipped_count += max(0, frames.number(payload) - self._skips_said)

    def close(self) -> None:
        """Complete the current file, or leave it out if it changed while it was read."""
        file, self._open = self._open, None
        if file is None:
            return
        path = _clean_path(file.path)
        if path is None:
            self._skip(file.path, "bad_name")
        elif file.missing:
            if file.writer is not None:
                file.writer.abort()
            self._skip(file.path, "changed")
        elif file.writer is None:
            self._skip(file.path, file.reason)
        else:
            self._complete.append(_Complete(path, file.writer))

    def store(self, on_artifact: Callable[[Artifact], None] = lambda _artifact: None) -> None:
        """Store complete files as blobs in the order of arrival, and report each.

        After a failure nothing more is tried: every try may take long, and the run's caller waits.
        """
        complete, self._complete = self._complete, []
        failed: list[StorageError] = []

        def commit(file: _Complete) -> Artifact | None:
            if failed:
                file.writer.abort()
                return None
            try:
                return file.commit()
            except StorageError as e:
                failed.append(e)
                return None

        for file, artifact in zip(complete, _each(commit, complete), strict=True):
            if artifact is None:
                self._skip(file.path.encode(), NOT_STORED)
            else:
                self.artifacts.append(artifact)
                on_artifact(artifact)
        if failed:
            _log_failure(failed[0])

    def abort(self) -> None:
        """Release everything that was not stored."""
        file, self._open = self._open, None
        complete, self._complete = self._complete, []
        if file is not None and file.writer is not None:
            file.writer.abort()
        for item in complete:
            item.writer.abort()

    def _beyond(self, size: int) -> str | None:
        """Return the limit that the file begun last exceeds; an agent that collects an output has higher ones."""
        if size > self._limits.max_artifact_bytes or self._received > MAX_ARTIFACTS_BYTES:
            return "too_large"
        return "too_many" if self._files > self._limits.max_artifact_files else None

    def _writer(self, size: int) -> Writer | None:
        try:
            return self._blobs.writer(size)
        except StorageUnavailable as e:
            _log_failure(e)
        return None

    def _skip(self, raw: bytes, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < MAX_SKIPPED_LISTED:
            shown = _clean_path(raw) or urllib.parse.quote_from_bytes(raw[:1024])
            self.skipped.append({"path": shown, "reason": reason})


class _Open:
    """The file that is arriving; without a writer when it will not be kept."""

    __slots__ = ("missing", "path", "reason", "size", "writer")

    def __init__(self, path: bytes, size: int, writer: Writer | None, reason: str = NOT_STORED) -> None:
        """`reason` is why it is left out if it has no writer."""
        self.reason = reason
        self.path = path
        self.size = size
        self.missing = size
        self.writer = writer


@dataclass(frozen=True, slots=True)
class _Complete:
    """A file that has arrived."""

    path: str
    writer: Writer

    def commit(self) -> Artifact:
        """Make it a blob. Raises StorageUnavailable."""
        name = names.clean(self.path)
        head = self.writer.head
        blob = self.writer.commit()
        return Artifact(new_id("file"), name, self.path, blob.size, blob.sha256, media_types.media_type(name, head))


def _each(commit: Callable[[_Complete], Artifact | None], files: list[_Complete]) -> list[Artifact | None]:
    """Call `commit` for each, several at a time where there are several."""
    if len(files) < 2:
        return [commit(file) for file in files]
    with ThreadPoolExecutor(min(COMMIT_THREADS, len(files)), "commit") as threads:
        return list(threads.map(commit, files))


def _log_failure(e: StorageError) -> None:
    log.warning("artifacts cannot be stored: %s", e, extra={"cause": repr(e.__cause__)})


def _clean_path(raw: bytes) -> str | None:
    """Return the path as text if it can be shown and stored unchanged."""
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return path if path_problem(path) is None and path.isprintable() else None
