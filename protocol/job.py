"""The job: one run as it travels from api to a worker, and the bounds of its fields.

The same JSON (`protocol.codec`) goes over every transport: the Unix socket today, AMQP later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from protocol.function import Returns
from protocol.limits import KIB, MIB
from protocol.network import NetworkAccess

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
#: Directory of files given by id, beneath /work.
INPUTS = "inputs"
DEFAULT_OUTPUTS = "outputs"
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


def outputs_problem(path: str) -> str | None:
    """Return why `path` cannot be the directory of artifacts, or None if it can: `.` is /work itself."""
    if path == ".":
        return None
    problem = path_problem(path)
    if problem is None and path.partition("/")[0] == INPUTS:
        return f"must not be {INPUTS}"
    return problem


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
    `interpreter` "cold" starts a new interpreter of the language instead of the waiting one. `live`: a client
    follows its output, so the language should not buffer it. `request_id` and `traceparent` name its
    request and its trace: for the log and the traces only.
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
    #: Limits of compiling below the service's own: some of `COMPILE_LIMITS`.
    compile_limits: dict[str, int | float] = field(default_factory=dict)
    #: True if the program, or its compiler, is ended when it writes more than is kept of a stream.
    ends_when_cut: bool = False
    request_id: str = ""
    traceparent: str = ""
    most_running: int | None = None
    most_waiting: int | None = None
    #: The session that it runs in; empty for a sandbox of its own.
    session: str = ""
    #: The directory beneath /work whose new or changed files are artifacts; empty for the default.
    outputs: str = ""
    #: The hosts that it may reach; None: it has no network.
    network: NetworkAccess | None = None
    #: The context of its session that its code is a cell of; empty for the default one.
    context: str = ""
    #: True if a run of its own is to have rich results: its code is executed as a cell.
    results: bool = False
    #: True if more input may come while it runs, after `stdin`.
    stdin_open: bool = False
    #: The packages that its sandbox is to have, in the order of the request.
    packages: tuple[str, ...] = ()
    #: Of a call of a function: the file with the handler, and the form of its output; empty for all other runs.
    handler: str = ""
    returns: Returns = ""
    #: True if `entrypoint` names one of `inputs`, a program that is started itself: nothing is compiled.
    executable: bool = False

    @property
    def size(self) -> int:
        """Return how many bytes the job brings, where they are many; 0 for the usual small job."""
        size = len(self.code or "") + sum(len(file.content) for file in self.files)
        return size if size > SMALL_JOB_BYTES else 0
