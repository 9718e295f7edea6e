"""Artifacts as they arrive from a sandbox: claims to be bounded, hashed and named, never paths to open."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable
from typing import Any

from config.ids import new_id
from sandbox import frames
from sandbox.frames import ProtocolError
from sandbox.job import MAX_ARTIFACTS_BYTES, MAX_SKIPPED_LISTED, Artifact, Limits, path_problem
from storage import media_types

REASONS = frozenset(
    {"symlink", "special_file", "too_large", "too_many", "too_deep", "bad_name", "unreadable", "changed"}
)


class Receiver:
    """Takes the artifact frames of one run, in order. Raises ProtocolError where an honest agent would not go."""

    def __init__(self, limits: Limits, on_artifact: Callable[[Artifact], None] = lambda _artifact: None) -> None:
        self._limits = limits
        self._on_artifact = on_artifact
        self._received = 0
        self._files = 0
        self._open: _Open | None = None
        self.artifacts: list[Artifact] = []
        self.skipped: list[dict[str, str]] = []
        self.skipped_count = 0
        self._skips_said = 0

    def begin(self, payload: bytes) -> None:
        """A file begins: its path and size."""
        self.close()
        raw, digits = frames.unpack(payload, 2)
        size = frames.number(digits)
        self._files += 1
        self._received += size
        if (
            size > self._limits.max_artifact_bytes
            or self._files > self._limits.max_artifact_files
            or self._received > MAX_ARTIFACTS_BYTES
        ):
            raise ProtocolError("an artifact beyond the limits")
        self._open = _Open(raw, size)

    def data(self, payload: bytes) -> None:
        """More bytes of the file begun last."""
        if self._open is None or len(payload) > self._open.missing:
            raise ProtocolError("artifact bytes that were not announced")
        self._open.missing -= len(payload)
        self._open.digest.update(payload)

    def skip(self, payload: bytes) -> None:
        """A file that the agent left out, and why."""
        raw, reason = frames.unpack(payload, 2)
        text = reason.decode("ascii", "replace")
        self._skips_said += 1
        if text not in REASONS or self._skips_said > MAX_SKIPPED_LISTED:
            raise ProtocolError("a skipped artifact that cannot be")
        self._skip(raw, text)

    def end(self, payload: bytes) -> None:
        """The agent has sent all; `payload` is how many it left out."""
        self.close()
        self.skipped_count += max(0, frames.number(payload) - self._skips_said)

    def close(self) -> None:
        """The file begun last is complete, or has changed under the agent's hands."""
        file, self._open = self._open, None
        if file is None:
            return
        path = _clean_path(file.path)
        if file.missing:
            self._skip(file.path, "changed")
        elif path is None:
            self._skip(file.path, "bad_name")
        else:
            name = path.rpartition("/")[2]
            artifact = Artifact(new_id("file"), name, path, file.size, file.digest.hexdigest(), content_type(name))
            self.artifacts.append(artifact)
            self._on_artifact(artifact)

    def _skip(self, raw: bytes, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < MAX_SKIPPED_LISTED:
            shown = _clean_path(raw) or urllib.parse.quote_from_bytes(raw[:1024])
            self.skipped.append({"path": shown, "reason": reason})


class _Open:
    """The file that is arriving."""

    __slots__ = ("digest", "missing", "path", "size")

    def __init__(self, path: bytes, size: int) -> None:
        self.path = path
        self.size = size
        self.missing = size
        self.digest: Any = hashlib.sha256()


def _clean_path(raw: bytes) -> str | None:
    """The path as text if it is one that can be shown and stored as it is."""
    try:
        path = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return path if path_problem(path) is None and path.isprintable() else None


def content_type(name: str) -> str:
    """By the name's ending; whatever is not known is bytes."""
    return media_types.by_ending(name) or media_types.BYTES
