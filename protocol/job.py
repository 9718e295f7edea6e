"""The job: one run as it travels from api to a worker, and the bounds of its fields.

The same JSON (`protocol.codec`) goes over every transport: the Unix socket today, AMQP later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from protocol.limits import KIB, MIB

MAX_CODE_BYTES = MIB
MAX_STDIN_BYTES = 8 * MIB
MAX_INLINE_FILES = 64
MAX_ARGS = 64
MAX_ENV = 64
MAX_STRING_BYTES = 4 * KIB
MAX_PATH_BYTES = 1024
MAX_PATH_PART_BYTES = 255
MAX_METADATA = 16
MAX_METADATA_BYTES = 512
MAX_ARTIFACTS_BYTES = 25 * MIB
MAX_SKIPPED_LISTED = 100
#: The part of a sandbox's memory that /work may fill.
WORK_SHARE = 0.5
#: Where files with an id land, beneath /work.
INPUTS = "inputs"
MAX_BODY_BYTES = 16 * MIB
#: Jobs that bring no more are not counted by their size: there are not enough of them to fill a memory.
SMALL_JOB_BYTES = 256 * 1024
#: A request or an output of more bytes is stored as a blob: a database is no place for it.
MAX_RECORD_BYTES = 256 * KIB


def path_problem(path: str) -> str | None:
    """Return why `path` cannot name a file beneath /work, or None if it can."""
    raw = path.encode("utf-8", "surrogatepass")
    if not path:
        return "must not be empty"
    if len(raw) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if "\0" in path:
        return "must not contain NUL"
    if path.startswith("/"):
        return "must be relative"
    for part in path.split("/"):
        if part == "":
            return "must not contain an empty part"
        if part == "..":
            return "must not contain '..'"
        if part == ".":
            return "must not contain '.'"
        if len(part.encode("utf-8", "surrogatepass")) > MAX_PATH_PART_BYTES:
            return f"has a part longer than {MAX_PATH_PART_BYTES} bytes"
    return None


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file to write before the start. `path` is relative to /work, `content` its bytes."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class JobInput:
    """A file to write before the start whose bytes are in storage. `path` is relative to /work.

    `area` is whose subtree the blob is in, `sha256` and `size` are what it must turn out to be.
    """

    path: str
    area: Literal["upload", "artifact"]
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """One run as the worker receives it.

    `language` may be an alias. `limits` holds only what was asked. `key` is whose run it is, for fairness.
    `most_running` and `most_waiting` are that key's share of the places and of the queue; None is no bound.
    `interpreter` "cold" starts the language's interpreter anew instead of the waiting one. `live`: somebody
    watches its output, so the language should not hold it back. `request_id` and `traceparent` say which
    request and which trace it belongs to: for the log and the traces alone.
    """

    run_id: str
    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: tuple[JobFile, ...] = ()
    inputs: tuple[JobInput, ...] = ()
    args: tuple[str, ...] = ()
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)
    limits: dict[str, int | float] = field(default_factory=dict)
    key: str = ""
    isolation: Literal["default", "container", "gvisor"] = "default"
    interpreter: Literal["warm", "cold"] = "warm"
    live: bool = False
    request_id: str = ""
    traceparent: str = ""
    most_running: int | None = None
    most_waiting: int | None = None
    #: The session that it runs in; empty for a sandbox of its own.
    session: str = ""

    @property
    def size(self) -> int:
        """Return how many bytes the job brings, where they are many; 0 for the usual small job."""
        size = len(self.code or "") + sum(len(file.content) for file in self.files)
        return size if size > SMALL_JOB_BYTES else 0
