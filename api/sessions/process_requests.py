"""Parse the bodies of calls about processes and terminals: the shape by Pydantic, then the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.errors import invalid
from api.http.field_names import FieldNames
from api.runs.requests import parse_run
from api.sessions.bodies import MAX_TIMEOUT_MS, check_text, check_visible, env_schema, name_schema, parsed_body
from protocol.job import MAX_ENV, MAX_PATH_BYTES, MAX_STRING_BYTES
from protocol.session import MAX_TERMINAL_CELLS, TerminalSize

MAX_TAG = 96
MAX_ARGV = 256


def _process_schema(schema: dict[str, Any]) -> None:
    """Add the rules that are checked by hand, in place."""
    name_schema(schema, "tag", MAX_TAG)
    env_schema(schema)
    fields = schema["properties"]
    text = {"type": "string", "pattern": r"^[^\x00]*$"}
    fields["argv"]["anyOf"][0] |= {"items": text, "minItems": 1, "prefixItems": [text | {"minLength": 1}]}
    for name in ("command", "cwd"):
        fields[name]["anyOf"][0] |= {"pattern": r"^[^\x00]*$"}
    schema["oneOf"] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}, other: {"type": "null"}}}
        for name, other in (("argv", "command"), ("command", "argv"))
    ]


class TerminalIn(BaseModel):
    """The size of a terminal, in characters."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cols: Annotated[int, Field(ge=1, le=MAX_TERMINAL_CELLS)]
    rows: Annotated[int, Field(ge=1, le=MAX_TERMINAL_CELLS)]


class ProcessIn(BaseModel):
    """The body of `POST /v1/sessions/{id}/processes`: either `argv` or `command`."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_process_schema)

    argv: Annotated[list[str], Field(max_length=MAX_ARGV)] | None = None
    command: str | None = Field(None, description="A line for bash.")
    cwd: str | None = Field(None, description="The working directory. Default: /work.")
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV)] | None = None
    stdin: str | None = Field(None, description="The input, and then its end.")
    stdin_open: bool | None = Field(None, description="Leave the input open for more.")
    timeout_ms: Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS)] | None = None
    tag: str | None = Field(None, description="A name of your own; visible ASCII, at most 96.")
    wait: bool | None = Field(None, description="Answer when the process has ended, with its output.")
    stream: bool | None = Field(None, description="Answer with its events as they happen.")
    encoding: Literal["text", "base64"] | None = Field(None, description="Of output in the answer. Default: text.")
    pty: TerminalIn | None = Field(None, description="Give it a terminal of this size.")
    on_disconnect: Literal["kill"] | None = Field(
        None, description="Kill it when the client that waits for it or streams it goes away."
    )
    keep_awake: bool | None = Field(None, description="Do not freeze the session while the process lives.")


_NAMES = FieldNames.of(ProcessIn, pty=("cols", "rows"))
_TERMINAL_NAMES = FieldNames.of(TerminalIn)


@dataclass(frozen=True, slots=True)
class ProcessRequest:
    """A process that keeps every rule."""

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    stdin: bytes
    stdin_open: bool
    timeout_ms: int | None
    tag: str | None
    wait: bool
    stream: bool
    encoding: Literal["text", "base64"]
    pty: dict[str, int] | None
    kill_if_gone: bool
    keep_awake: bool


def parse_process(data: dict[str, Any]) -> ProcessRequest:
    """Return a process's request from its JSON. Raises ApiError 400 naming the first wrong field."""
    body = parsed_body(ProcessIn, data, _NAMES)
    if (body.argv is None) == (body.command is None):
        raise invalid("argv: give either argv or command", param="argv")
    argv = body.argv if body.argv is not None else ["bash", "-c", str(body.command)]
    if not argv or not argv[0]:
        raise invalid("argv: must begin with the name of a program", param="argv")
    for index, text in enumerate(argv):
        check_text(text, f"argv.{index}" if body.command is None else "command", 32 * MAX_STRING_BYTES)
    cwd = body.cwd or "/work"
    check_text(cwd, "cwd", MAX_PATH_BYTES)
    check_visible(body.tag, "tag", MAX_TAG)
    env = parse_run({"language": "-", "code": "-", "env": data.get("env")}).env
    if body.stdin is not None and body.stdin_open:
        raise invalid("stdin_open: not together with stdin, which ends the input", param="stdin_open")
    if body.stream and body.wait:
        raise invalid("stream: not together with wait", param="stream")
    if body.on_disconnect and not (body.wait or body.stream):
        raise invalid("on_disconnect: is for wait or stream; else no client stays", param="on_disconnect")
    if body.pty is not None and body.stdin_open is False:
        raise invalid("stdin_open: the input of a terminal stays open", param="stdin_open")
    return ProcessRequest(
        argv=tuple(argv),
        cwd=cwd if cwd.startswith("/") else f"/work/{cwd}",
        env=env,
        stdin=(body.stdin or "").encode(),
        stdin_open=bool(body.stdin_open) or body.pty is not None,
        timeout_ms=body.timeout_ms,
        tag=body.tag,
        wait=bool(body.wait),
        stream=bool(body.stream),
        encoding=body.encoding or "text",
        pty=None if body.pty is None else body.pty.model_dump(),
        kill_if_gone=body.on_disconnect == "kill",
        keep_awake=bool(body.keep_awake),
    )


def parse_size(data: dict[str, Any]) -> TerminalSize:
    """Return the size of a terminal from its JSON. Raises ApiError 400 naming the first wrong field."""
    size = parsed_body(TerminalIn, data, _TERMINAL_NAMES)
    return TerminalSize(size.cols, size.rows)
