"""Read RunTools' requests about sandboxes and translate them into sessions and processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error
from protocol.job import MAX_METADATA, MAX_METADATA_BYTES
from protocol.limits import LIMIT_RULES
from protocol.session import MAX_IDLE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from api.keys.plans import Plan

#: The template of a request that names none.
DEFAULT_TEMPLATE = "base-ubuntu"
#: RunTools' own templates and the language whose image stands in for each.
_LANGUAGES = {"base-ubuntu": "python", "nodejs": "node", "python-ml": "python", "full-stack": "node"}
#: The version behind a template's name, as in `nodejs-20` and `go-1.22`.
_VERSION = re.compile(r"-[0-9]+(?:\.[0-9]+)*$", re.ASCII)
_MEMORY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(M|MB|MiB|G|GB|GiB)", re.ASCII)
#: The directory in which RunTools' sandboxes start, and ours.
_WORKSPACE, _WORK = "/workspace", "/work"
DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS = 30_000, 3_600_000
#: The metadata of a session that keep what has no other place in it.
TEMPLATE_KEY, TAGS_KEY = "runtools.template", "runtools.tags"
#: The client's names for the fields of a session.
NAMES = {
    "language": "template",
    "limits.cpus": "resources.vcpus",
    "limits.memory_mb": "resources.memory",
    "idle_timeout_s": "idleTimeout",
    f"metadata.{TAGS_KEY}": "tags",
}


class SandboxResources(BaseModel):
    """The resources that a sandbox is to have; more than the service's maximum is that maximum."""

    model_config = ConfigDict(strict=True)

    vcpus: float | None = None
    memory: str | None = Field(default=None, description="Such as `512MB` or `2GB`.")
    disk: str | None = Field(default=None, description="Accepted without effect.")


class SandboxRequest(BaseModel):
    """The body of `POST /v1/sandboxes`. Null is the same as leaving a field out. Other fields are ignored."""

    model_config = ConfigDict(strict=True)

    template: str | None = Field(
        default=None, description=f"`{DEFAULT_TEMPLATE}` by default; or the id or an alias of a language."
    )
    name: str | None = Field(
        default=None, description="With the name of a live sandbox of yours, that one is returned."
    )
    tags: list[str] | dict[str, str] | None = None
    env: dict[str, str] | None = None
    resources: SandboxResources | None = None
    vcpus: float | None = None
    memoryMb: int | None = None  # noqa: N815  # the name of the client
    idleTimeout: Annotated[int | None, Field(ge=0)] = None  # noqa: N815
    idleTimeoutSeconds: Annotated[int | None, Field(ge=0)] = None  # noqa: N815
    metadata: dict[str, str] | None = None
    mounts: list[Any] | None = Field(default=None, description="Must be empty: there are no workspaces.")
    sshKeys: list[str] | None = Field(default=None, description="Must be empty: there is no SSH.")  # noqa: N815
    password: str | None = Field(default=None, description="Must be missing: there is no SSH.")
    rootPassword: str | None = Field(default=None, description="Must be missing: there is no SSH.")  # noqa: N815


class ExecRequest(BaseModel):
    """The body of `POST /v1/sandboxes/{id}/exec`. Other fields are ignored."""

    model_config = ConfigDict(strict=True)

    command: str | None = Field(default=None, description="A line for bash.")
    timeout: Annotated[int | None, Field(ge=1, le=MAX_TIMEOUT_MS)] = Field(
        default=None, description=f"Milliseconds; {DEFAULT_TIMEOUT_MS} if nothing is said."
    )
    cwd: str | None = Field(default=None, description=f"`{_WORKSPACE}` is the sandbox's `{_WORK}`.")
    env: dict[str, str] | None = None


_SANDBOX_NAMES, _EXEC_NAMES = FieldNames.of(SandboxRequest), FieldNames.of(ExecRequest)
_NOT_OFFERED = {
    "mounts": "workspaces are not available",
    "sshKeys": "SSH is not available",
    "password": "SSH is not available",
    "rootPassword": "SSH is not available",
}


def session_fields(data: dict[str, Any], ids: Mapping[str, str], plan: Plan | None) -> dict[str, Any]:
    """Return the fields of `POST /v1/sessions` for a request; `ids` are the languages' by id and alias.

    Raises ApiError 400.
    """
    try:
        asked = SandboxRequest.model_validate(data)
    except ValidationError as e:
        location = e.errors(include_url=False, include_input=False)[0]["loc"]
        if location[0] == "tags":
            raise invalid("tags: must be a list of strings, or an object of strings", param="tags") from e
        if location[0] in ("idleTimeout", "idleTimeoutSeconds"):
            raise invalid(f"{location[0]}: must be an integer from 0", param=str(location[0])) from e
        raise shape_error(e, _SANDBOX_NAMES) from e
    for name, reason in _NOT_OFFERED.items():
        if getattr(asked, name):
            raise invalid(f"{name}: {reason}; leave it out", param=name, code="not_supported")
    template = asked.template or DEFAULT_TEMPLATE
    fields: dict[str, Any] = {
        "language": _language(template, ids),
        "limits": _limits(asked, plan),
        "metadata": _metadata(asked, template),
    }
    for name in ("name", "env"):
        if (value := getattr(asked, name)) is not None:
            fields[name] = value
    idle = asked.idleTimeout if asked.idleTimeout is not None else asked.idleTimeoutSeconds
    if idle is not None:
        # 0 is never, and the longest that a session may wait is a day.
        fields["idle_timeout_s"] = min(idle or MAX_IDLE_S, MAX_IDLE_S)
    return fields


def process_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `POST /v1/sessions/{id}/processes` for a command. Raises ApiError 400."""
    try:
        asked = ExecRequest.model_validate(data)
    except ValidationError as e:
        if e.errors(include_url=False, include_input=False)[0]["type"] in ("greater_than_equal", "less_than_equal"):
            raise invalid(f"timeout: must be an integer from 1 to {MAX_TIMEOUT_MS}", param="timeout") from e
        raise shape_error(e, _EXEC_NAMES) from e
    if not asked.command:
        raise invalid("command: is required", param="command", code="missing_field")
    return {
        "command": asked.command,
        "cwd": _directory(asked.cwd or _WORKSPACE),
        "env": asked.env,
        "timeout_ms": asked.timeout or DEFAULT_TIMEOUT_MS,
        "wait": True,
    }


def _language(template: str, ids: Mapping[str, str]) -> str:
    for name in (template, _VERSION.sub("", template)):
        if (found := _LANGUAGES.get(name, name)) in ids:
            return ids[found]
    offered = ", ".join((DEFAULT_TEMPLATE, *_distinct(ids.values())))
    raise invalid(f"template: unknown; supported: {offered}", param="template", code="unknown_language")


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _limits(asked: SandboxRequest, plan: Plan | None) -> dict[str, int | float]:
    """Return the limits: RunTools' sandboxes are larger, so that what is asked for is lowered to what there is."""
    resources = asked.resources or SandboxResources()
    limits: dict[str, int | float] = {}
    cpus = resources.vcpus if resources.vcpus is not None else asked.vcpus
    if cpus is not None:
        limits["cpus"] = min(cpus, _most("cpus", plan))
    memory_mb = asked.memoryMb if resources.memory is None else _mebibytes(resources.memory)
    if memory_mb is not None:
        limits["memory_mb"] = min(memory_mb, int(_most("memory_mb", plan)))
    return limits


def _most(name: str, plan: Plan | None) -> int | float:
    rule = LIMIT_RULES[name]
    return rule.number(rule.ceiling) if plan is None else plan.ceiling(name)


def _mebibytes(text: str) -> int:
    found = _MEMORY.fullmatch(text.strip())
    if found is None:
        raise invalid("resources.memory: must be a size such as 512MB or 2GB", param="resources.memory")
    return int(float(found[1]) * (1024 if found[2][0] == "G" else 1))


def _metadata(asked: SandboxRequest, template: str) -> dict[str, str]:
    metadata = dict(asked.metadata or {}) | {"dialect": "runtools", TEMPLATE_KEY: template}
    if asked.tags:
        tags = orjson.dumps(asked.tags).decode()
        if len(TAGS_KEY) + len(tags.encode()) > MAX_METADATA_BYTES:
            raise invalid(f"tags: at most {MAX_METADATA_BYTES} bytes in all", param="tags", code="too_long")
        metadata[TAGS_KEY] = tags
    if len(metadata) > MAX_METADATA:
        raise invalid(f"metadata: at most {MAX_METADATA - 3} entries", param="metadata", code="too_many")
    return metadata


def _directory(cwd: str) -> str:
    if cwd == _WORKSPACE or cwd.startswith(f"{_WORKSPACE}/"):
        return _WORK + cwd.removeprefix(_WORKSPACE)
    return cwd
