"""The service's answers about sessions as frozen objects; see `models`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from runyard.models import Json, Row


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session, live or ended, as it was when it was asked for."""

    id: str
    status: str
    language: str
    name: str | None
    runs: int
    limits: dict[str, int | float]
    metadata: dict[str, str]
    created_at: str | None
    last_active_at: str | None
    expires_at: str | None
    ended_at: str | None
    #: Why it ended: `deleted`, `idle`, `age`, `oom` and others; None while it lives.
    end_reason: str | None
    raw: Json = field(repr=False, compare=False)
    #: The packages that it was created with, and their layer.
    packages: tuple[str, ...] = ()
    layer: str | None = None

    @property
    def ended(self) -> bool:
        """Return whether nothing can be done in it any more."""
        return self.status == "ended"

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "session")
        return cls(
            id=row.text("id"),
            status=row.text("status"),
            language=row.text("language", ""),
            name=row.text_or_none("name"),
            runs=row.number("runs", 0),
            limits=row.part("limits") or {},
            metadata=row.part("metadata") or {},
            created_at=row.text_or_none("created_at"),
            last_active_at=row.text_or_none("last_active_at"),
            expires_at=row.text_or_none("expires_at"),
            ended_at=row.text_or_none("ended_at"),
            end_reason=row.text_or_none("end_reason"),
            raw=row.data,
            packages=tuple(str(entry) for entry in row.items("packages")),
            layer=row.text_or_none("layer"),
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a session. The output is there once it has ended and was asked for by itself."""

    id: str
    pid: int | None
    argv: tuple[str, ...]
    tag: str | None
    status: str
    exit_code: int | None
    signal: str | None
    timed_out: bool
    stdout: str
    stderr: str
    stdout_truncated: bool
    stderr_truncated: bool
    started_at: str | None
    ended_at: str | None
    raw: Json = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """Return whether its main process has exited."""
        return self.status == "ended"

    @property
    def ok(self) -> bool:
        """Return whether it exited with 0."""
        return self.exit_code == 0

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "process")
        return cls(
            id=row.text("id"),
            pid=row.number_or_none("pid"),
            argv=tuple(str(text) for text in row.items("argv")),
            tag=row.text_or_none("tag"),
            status=row.text("status"),
            exit_code=row.number_or_none("exit_code"),
            signal=row.text_or_none("signal"),
            timed_out=row.flag("timed_out"),
            stdout=row.text("stdout", ""),
            stderr=row.text("stderr", ""),
            stdout_truncated=row.flag("stdout_truncated"),
            stderr_truncated=row.flag("stderr_truncated"),
            started_at=row.text_or_none("started_at"),
            ended_at=row.text_or_none("ended_at"),
            raw=row.data,
        )


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A bearer token for the calls of one session. It is a secret."""

    token: str = field(repr=False)
    expires_at: str | None

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "token")
        return cls(row.text("token"), row.text_or_none("expires_at"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a directory or a link in a session. Its names are a program's: join them to no path unchecked."""

    name: str
    path: str
    #: `file`, `directory`, `symlink` or `other`.
    type: str
    size: int
    mode: str
    modified_at: str | None
    #: Of a link.
    target: str | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "entry")
        return cls(
            name=row.text("name"),
            path=row.text("path"),
            type=row.text("type"),
            size=row.number("size", 0),
            mode=row.text("mode", ""),
            modified_at=row.text_or_none("modified_at"),
            target=row.text_or_none("target"),
            raw=row.data,
        )


@dataclass(frozen=True, slots=True)
class Context:
    """An interpreter in a session that keeps its variables."""

    id: str
    name: str | None
    language: str
    cwd: str
    created_at: str | None
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "context")
        return cls(
            id=row.text("id"),
            name=row.text_or_none("name"),
            language=row.text("language"),
            cwd=row.text("cwd", ""),
            created_at=row.text_or_none("created_at"),
            raw=row.data,
        )


@dataclass(frozen=True, slots=True)
class Completions:
    """The ways in which the text from `start` to `end` can go on; both count characters."""

    matches: tuple[str, ...]
    start: int
    end: int

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "completions")
        return cls(tuple(str(text) for text in row.items("matches")), row.number("start", 0), row.number("end", 0))


@dataclass(frozen=True, slots=True)
class Inspection:
    """The documentation of a name."""

    found: bool
    text: str

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "inspection")
        return cls(row.flag("found"), row.text("text", ""))
