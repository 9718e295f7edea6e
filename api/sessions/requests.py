"""Parse the bodies of calls about sessions and runs in them: the shape by Pydantic, then the rules."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.errors import invalid
from api.http.field_names import FieldNames
from api.http.validation import unknown_field
from api.runs import request_schema
from api.runs.field_names import SYNONYMS
from api.runs.requests import (
    EXTERNAL_ID,
    PACKAGES,
    ExternalId,
    FileIn,
    Isolation,
    NetworkIn,
    Packages,
    RunIn,
    check_external_id,
    checked_outputs,
    parse_run,
)
from api.sessions.bodies import MAX_NAME, check_visible, env_schema, name_schema, parsed_body
from protocol.job import DEFAULT_OUTPUTS, MAX_ENV, MAX_INLINE_FILES, MAX_METADATA
from protocol.limits import limit_problem
from protocol.network import NetworkAccess
from protocol.session import (
    DEFAULT_AGE_S,
    DEFAULT_DISK_MB,
    DEFAULT_FREEZE_S,
    DEFAULT_IDLE_S,
    DEFAULT_LIMITS,
    MAX_AGE_S,
    MAX_FREEZE_S,
    MAX_IDLE_S,
    SESSION_LIMIT_RULES,
    SESSION_LIMITS,
    TIMES,
    WORKDIRS,
    OnIdle,
    SessionChange,
    default_disk_mb,
    most_disk_mb,
)

if TYPE_CHECKING:
    from api.runs.requests import InputIn
    from protocol.job import JobFile

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 26


def _session_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    name_schema(schema, "name", MAX_NAME)
    env_schema(schema)
    schema["properties"]["outputs"] = request_schema.outputs()
    schema["properties"]["limits"]["anyOf"][0] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                "type": ["integer" if rule.integer else "number", "null"],
                "minimum": rule.number(rule.minimum),
                "maximum": rule.number(rule.ceiling),
                "default": (DEFAULT_LIMITS | {"disk_mb": DEFAULT_DISK_MB})[name],
            }
            for name, rule in SESSION_LIMIT_RULES.items()
        },
    }


class SessionIn(BaseModel):
    """The body of `POST /v1/sessions`. Null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_session_schema)

    language: str
    name: (
        Annotated[str, Field(description="Unique among your live sessions; visible ASCII, at most 128.")] | None
    ) = None
    limits: dict[str, Any] | None = Field(
        None,
        description="`memory_mb`, `cpus`, `pids`, and `disk_mb` for /work, at most `memory_mb` - 64 or half of it.",
    )
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    files: Annotated[list[FileIn], Field(max_length=MAX_INLINE_FILES)] | None = Field(
        None, description="Written beneath /work before the session is ready."
    )
    workdir: Literal["/work", "/home/user", "/workspace", "/mnt/data"] | None = Field(
        None, description="Where programs find /work: the value of HOME and PWD. Default: /work."
    )
    outputs: str | None = None
    idle_timeout_s: Annotated[int, Field(ge=1, le=MAX_IDLE_S)] | None = None
    max_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    isolation: Isolation | None = None
    network: NetworkIn | None = Field(
        None, description="The hosts that its programs may reach through the proxy. Default: none."
    )
    packages: Packages | None = Field(None, description=PACKAGES)
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None
    external_id: ExternalId | None = Field(None, description=EXTERNAL_ID)
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = Field(
        None, description="End it so long from now, whatever happens in it, in place of `idle_timeout_s`."
    )
    freeze_after_s: Annotated[int, Field(ge=0, le=MAX_FREEZE_S)] | None = Field(
        None, description="Freeze it after so long without activity; 0 is never. Default: 30."
    )
    on_idle: OnIdle | None = Field(None, description="Whether it ends or is paused after its idle time.")
    background: bool | None = Field(None, description="Answer at once, with 202, while it is created.")
    stream: bool | None = Field(None, description="Answer with events while it is created.")


class SessionPatchIn(BaseModel):
    """The body of `PATCH /v1/sessions/{id}`. A field that is left out, or null, stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    idle_timeout_s: Annotated[int, Field(ge=1, le=MAX_IDLE_S)] | None = None
    max_age_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = None
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_AGE_S)] | None = Field(
        None, description="End it so long from now, whatever happens in it, in place of `idle_timeout_s`."
    )
    freeze_after_s: Annotated[int, Field(ge=0, le=MAX_FREEZE_S)] | None = None
    on_idle: OnIdle | None = None
    network: NetworkIn | None = Field(
        None,
        description=(
            "Replaces the hosts that its programs may reach; with none in `allow` they reach no host any more. "
            "Open connections to hosts that are not permitted any more are closed."
        ),
    )
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = Field(
        None, description="Replaces all metadata."
    )


class SessionRunIn(RunIn):
    """The body of `POST /v1/sessions/{id}/runs`."""

    context: str | None = Field(
        None,
        description="The context that the code is a cell of: its id or its name. Default: that of the language.",
        json_schema_extra={"pattern": f"^[!-~]{{1,{MAX_NAME}}}$"},
    )


_NAMES = FieldNames.of(SessionIn, SYNONYMS, limits=SESSION_LIMITS)
_PATCH_NAMES = FieldNames.of(SessionPatchIn, network=("allow", "deny"))


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A session that keeps every rule but those that only the worker decides."""

    language: str
    name: str | None
    limits: dict[str, int | float]
    env: dict[str, str]
    files: tuple[JobFile, ...]
    inputs: tuple[InputIn, ...]
    workdir: str
    outputs: str
    idle_timeout_s: int
    max_age_s: int
    isolation: Isolation
    metadata: dict[str, str]
    external_id: str | None
    expires_in_s: int | None
    freeze_after_s: int
    on_idle: OnIdle
    background: bool
    stream: bool
    #: The limits and times that were asked for; the others have their defaults.
    given: frozenset[str]
    #: None for one that asks for no host.
    network: NetworkAccess | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionPatch:
    """A change that keeps every rule; `metadata` None leaves it as it is."""

    change: SessionChange
    metadata: dict[str, str] | None


def new_session_id() -> str:
    """Return a new id, which may become a host name: `sess_` and 26 characters of a-z and 2-7."""
    return "sess_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def parse_session(data: dict[str, Any]) -> SessionRequest:
    """Return a session's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = parsed_body(SessionIn, data, _NAMES)
    check_visible(body.name, "name", MAX_NAME)
    check_external_id(body.external_id)
    if body.background and body.stream:
        raise invalid("stream: not together with background", param="stream")
    limits = _resolved(_limits(body.limits or {}))
    # A session's files, variables and metadata keep the rules of a run's.
    shared = {name: data.get(name) for name in ("env", "files", "metadata", "network", "packages")}
    like = parse_run({"language": body.language, "code": "-", **shared})
    return SessionRequest(
        language=body.language,
        name=body.name,
        limits=limits,
        env=like.env,
        files=like.files,
        inputs=like.inputs,
        workdir=body.workdir or WORKDIRS[0],
        outputs=checked_outputs(body.outputs) or DEFAULT_OUTPUTS,
        idle_timeout_s=body.idle_timeout_s or DEFAULT_IDLE_S,
        max_age_s=body.max_age_s or DEFAULT_AGE_S,
        isolation=body.isolation or "default",
        metadata=like.metadata,
        external_id=body.external_id,
        expires_in_s=body.expires_in_s,
        freeze_after_s=DEFAULT_FREEZE_S if body.freeze_after_s is None else body.freeze_after_s,
        on_idle=body.on_idle or "end",
        background=bool(body.background),
        stream=bool(body.stream),
        network=like.network,
        packages=like.packages,
        given=frozenset(name for name, value in {**data, **(body.limits or {})}.items() if value is not None),
    )


def parse_patch(data: dict[str, Any]) -> SessionPatch:
    """Return a change from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = parsed_body(SessionPatchIn, data, _PATCH_NAMES)
    given = {name: data[name] for name in ("metadata", "network") if data.get(name) is not None}
    like = parse_run({"language": "-", "code": "-", **given})
    times = {name: getattr(body, name) for name in (*TIMES, "on_idle")}
    network = (like.network or NetworkAccess(())) if "network" in given else None
    return SessionPatch(SessionChange(**times, network=network), like.metadata if "metadata" in given else None)


def _limits(given: dict[str, Any]) -> dict[str, int | float]:
    limits: dict[str, int | float] = {}
    for name, value in given.items():
        if name not in SESSION_LIMITS:
            raise unknown_field(("limits", name), _NAMES)
        if value is None:
            continue
        problem = limit_problem(name, value, SESSION_LIMIT_RULES)
        if problem is not None:
            raise invalid(problem.message, param=f"limits.{name}", code=problem.code)
        limits[name] = value
    return limits


def _resolved(asked: dict[str, int | float]) -> dict[str, int | float]:
    """Return all limits of a session. Raises ApiError 400 for a disk that leaves too little of the memory."""
    limits = DEFAULT_LIMITS | asked
    most = most_disk_mb(limits["memory_mb"])
    if limits.setdefault("disk_mb", default_disk_mb(limits["memory_mb"])) > most:
        message = (
            f"limits.disk_mb: {limits['disk_mb']} exceeds {most}, the maximum for memory_mb {limits['memory_mb']}"
        )
        raise invalid(message, param="limits.disk_mb", code="limit_exceeds_maximum")
    return limits
