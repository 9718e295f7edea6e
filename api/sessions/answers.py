"""The models of the answers about sessions; see `api.openapi.models`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.openapi.models import Count, ResponseModel, SessionId, Time, may_be_absent


class SessionUsage(ResponseModel):
    """The resources that a session has used until now, or until its end."""

    memory_mb: Count = Field(description="The most memory that it held at any time, in MiB.")
    disk_mb: Count = Field(description="What /work holds now, or held at the end, in MiB.")
    cpu_ms: Count
    processes: Count = Field(description="Processes and file operations that are alive.")
    egress_bytes: Count


class SessionHosts(ResponseModel):
    """The hosts that the programs of a session may reach, as patterns."""

    allow: list[str]
    deny: list[str]


class Session(ResponseModel):
    """A session, live or ended."""

    id: SessionId
    object: Literal["session"]
    status: Literal["creating", "ready", "busy", "frozen", "paused", "ended"]
    language: str
    keeps: Literal["variables", "files"] = Field(
        description="`variables`: code runs in a context. `files`: each run is a new process in the same /work."
    )
    name: str | None
    runs: Count
    usage: SessionUsage
    limits: dict[str, float]
    env: dict[str, str]
    idle_timeout_s: Count
    max_age_s: Count
    workdir: str
    outputs: str
    expires_in_s: Count | None
    freeze_after_s: Count
    on_idle: Literal["end", "pause"]
    external_id: str | None
    isolation: Literal["default", "container", "gvisor"]
    network: SessionHosts
    packages: list[str] = Field(description="In normal form, with the bounds of the patterns that permit them.")
    layer: str | None = Field(description="The layer of its packages, for `GET /v1/layers/{id}`.")
    metadata: dict[str, str]
    created_at: Time
    last_active_at: Time
    expires_at: Time | None = Field(description="When it ends if nothing happens in it; null once it has ended.")
    ended_at: Time | None
    end_reason: (
        Literal["deleted", "idle", "age", "oom", "killed", "quota", "failed", "worker_lost", "shutdown"] | None
    )
    error: dict[str, Any] | None = Field(description="Why it could not be created, in the background.")


class SessionToken(ResponseModel):
    """A bearer token for the calls of one session."""

    token: str = Field(pattern=r"^st_[a-z2-7]{26}_[0-9a-f]{64}$")
    expires_at: Time | None = Field(description="When the session ends if nothing happens in it.")


class SessionList(ResponseModel):
    """A page of sessions."""

    object: Literal["list"]
    data: list[Session]
    first_id: SessionId | None
    last_id: SessionId | None
    has_more: bool
    next: str | None = Field(description="The link to the next page, with the same filters; null on the last one.")


class SessionDeleted(ResponseModel):
    """A session that has ended."""

    id: SessionId
    object: Literal["session"]
    deleted: Literal[True]


class Watcher(ResponseModel):
    """A watcher of a directory of a session."""

    id: str = Field(pattern=r"^watch_[A-Za-z0-9]{24,64}$")
    object: Literal["watcher"]
    path: str
    recursive: bool


class WatcherDeleted(ResponseModel):
    """A watcher that has ended."""

    id: str
    object: Literal["watcher"]
    deleted: Literal[True]


class WatchEvent(ResponseModel):
    """A change beneath a directory that is watched."""

    seq: Count | None
    event: Literal["create", "modify", "remove", "move", "overflow", "keepalive"]
    path: str | None = Field(description="Relative to the directory; null where changes were lost (`overflow`).")
    to: str | None = Field(description="Of `move`: the new path.")
    raw: bool | None = Field(
        None,
        description="True where paths are not UTF-8: they are percent-encoded.",
        json_schema_extra=may_be_absent,
    )


class WatchEventList(ResponseModel):
    """The events of a watcher."""

    object: Literal["list"]
    data: list[WatchEvent]
    ended: bool = Field(description="True if the directory is gone: there will be no more.")


class Process(ResponseModel):
    """A process of a session."""

    id: str = Field(pattern=r"^proc_[A-Za-z0-9]{24,64}$")
    object: Literal["process"]
    pid: int | None = Field(description="Its number in the session; null until it has one.")
    argv: list[str]
    tag: str | None
    status: Literal["running", "ended"]
    exit_code: int | None
    signal: str | None
    timed_out: bool
    started_at: Time
    ended_at: Time | None
    stdout: str | None = Field(None, json_schema_extra=may_be_absent)
    stderr: str | None = Field(None, json_schema_extra=may_be_absent)
    stdout_truncated: bool | None = Field(None, json_schema_extra=may_be_absent)
    stderr_truncated: bool | None = Field(None, json_schema_extra=may_be_absent)


class Ticket(ResponseModel):
    """A ticket to attach to a process: good once, and for a short time."""

    ticket: str
    expires_at: Time


class ProcessList(ResponseModel):
    """The processes of a session, in the order in which they were started."""

    object: Literal["list"]
    data: list[Process]


class SessionContext(ResponseModel):
    """A context of a session: an interpreter that keeps its variables from one run to the next."""

    id: str = Field(pattern="^ctx_[0-9A-Za-z]+$")
    object: Literal["context"]
    name: str | None
    language: str
    cwd: str
    created_at: Time


class ContextList(ResponseModel):
    """The contexts of a session, the oldest first."""

    object: Literal["list"]
    data: list[SessionContext]


class ContextDeleted(ResponseModel):
    """A context that is not there any more."""

    id: str
    object: Literal["context"]
    deleted: Literal[True]


class Completions(ResponseModel):
    """The ways in which the text from `start` to `end` can go on; both count characters."""

    matches: list[str]
    start: Count
    end: Count


class Inspection(ResponseModel):
    """The documentation of the name at the cursor."""

    found: bool
    text: str


class FileEntry(ResponseModel):
    """A file, a directory or a link in a session."""

    name: str = Field(description="Its last part, in a list the path from the listed directory.")
    path: str
    type: Literal["file", "directory", "symlink", "other"]
    size: Count
    mode: str = Field(pattern=r"^[0-7]{4}$", description="The permission bits, in octal.")
    uid: Count
    gid: Count
    modified_at: Time
    target: str | None = Field(description="Of a link; null of anything else.")
    raw: bool | None = Field(
        None,
        description="True where name and path are not UTF-8, and therefore percent-encoded.",
        json_schema_extra=may_be_absent,
    )


class FileEntries(ResponseModel):
    """The entries of a directory, by name."""

    object: Literal["list"]
    data: list[FileEntry]
    has_more: bool


#: The events of a process: as those of a run.
PROCESS_EVENT: dict[str, Any] = {
    "type": "string",
    "description": "One event as JSON a line: `stdout`, `stderr`, `info`, and at last `result` with the process.",
}
