"""Read RunTools' requests and translate them into runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error, shown_name
from protocol.limits import LIMIT_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from api.keys.plans import Plan
    from api.system.languages import OfferedLanguage

#: The values of `runtime`; each is the id of a language.
RUNTIMES = ("python", "node", "bun", "deno", "go", "rust", "ruby", "php")
#: The time limit of a program whose client names none.
DEFAULT_TIMEOUT_MS = 30_000
#: The service's own bound of a compiler, in milliseconds.
COMPILE_TIMEOUT_MS = 30_000
_ANY_VERSION = ("*", "latest", "")


class RunToolsFile(BaseModel):
    """A file of a list."""

    model_config = ConfigDict(strict=True)

    name: str = Field(description="A relative path.")
    content: str


_TIMEOUT = {"description": f"Milliseconds; {DEFAULT_TIMEOUT_MS} if nothing is said."}


class RunToolsRequest(BaseModel):
    """The body of `POST /v1/execute`: of the first generation with `runtime`, of the later one with `language`.

    Null is the same as leaving a field out. Other fields are ignored.
    """

    model_config = ConfigDict(strict=True)

    runtime: str | None = Field(default=None, description=f"One of {', '.join(RUNTIMES)}.")
    language: str | None = Field(default=None, description="The id or an alias of a language.")
    version: str | None = Field(default=None, description="`*`, or the beginning of the installed version.")
    code: str | None = None
    files: dict[str, str] | list[RunToolsFile] | None = Field(
        default=None, description="An object of paths and texts, or a list."
    )
    entrypoint: str | None = Field(
        default=None,
        description="The path of the file to run. Default: the language's entry file, or the first one.",
    )
    args: list[str] | None = None
    stdin: str | None = None
    env: dict[str, str] | None = None
    timeout: Annotated[int | None, Field(json_schema_extra=_TIMEOUT)] = None
    run_timeout: Annotated[int | None, Field(json_schema_extra=_TIMEOUT)] = None
    compile_timeout: int | None = Field(
        default=None,
        description=f"Milliseconds for the compiler, 1 to {COMPILE_TIMEOUT_MS}; by default the most.",
    )
    session_id: str | None = Field(
        default=None, description="Must be null: programs that share files are commands in a sandbox."
    )

    @property
    def is_first_generation(self) -> bool:
        """Return whether the answer has an envelope."""
        return self.runtime is not None

    @property
    def named(self) -> str:
        """Return the requested language."""
        return (self.runtime if self.is_first_generation else self.language) or ""

    @property
    def names_language(self) -> str:
        """Return the name of the field that holds the language."""
        return "runtime" if self.is_first_generation else "language"

    @property
    def asked_files(self) -> list[tuple[str, str]]:
        """Return the path and text of each file, in order."""
        if isinstance(self.files, dict):
            return list(self.files.items())
        return [(file.name, file.content) for file in self.files or []]


@dataclass(frozen=True, slots=True)
class RunToolsOrder:
    """A request as a run: the fields of `POST /v1/runs`, and what the client calls those it may have got wrong."""

    fields: dict[str, Any]
    names: Mapping[str, str]
    compile_limits: dict[str, int | float]


_NAMES = FieldNames.of(RunToolsRequest)


def parse(data: dict[str, Any]) -> RunToolsRequest:
    """Return a request from its JSON. Raises ApiError 400."""
    try:
        asked = RunToolsRequest.model_validate(data)
    except ValidationError as e:
        # Of a union, every member that does not fit is a problem of its own.
        if e.errors(include_url=False, include_input=False)[0]["loc"][0] == "files":
            raise invalid(
                "files: must be an object of paths and texts, or a list of {name, content}", param="files"
            ) from e
        raise shape_error(e, _NAMES) from e
    if asked.runtime is None and asked.language is None:
        raise invalid("runtime: give runtime or language", param="runtime", code="missing_field")
    if asked.session_id is not None:
        raise invalid(
            "session_id: is not available here; leave it out, or use a sandbox",
            param="session_id",
            code="not_supported",
        )
    timeout = asked.compile_timeout
    if timeout is not None and not 1 <= timeout <= COMPILE_TIMEOUT_MS:
        raise invalid(f"compile_timeout: must be from 1 to {COMPILE_TIMEOUT_MS}", param="compile_timeout")
    return asked


def check_runtime(asked: RunToolsRequest, ids: Iterable[str]) -> None:
    """Check that a runtime is one of RunTools'; `ids` are the service's languages. Raises ApiError 400."""
    if asked.runtime is not None and asked.runtime not in RUNTIMES:
        known = set(ids)
        offered = ", ".join(name for name in RUNTIMES if name in known)
        raise invalid(f"runtime: unknown; supported: {offered}", param="runtime", code="unknown_language")


def order_of(asked: RunToolsRequest, language: OfferedLanguage, plan: Plan | None) -> RunToolsOrder:
    """Return the run that a request asks for. Raises ApiError 400."""
    _check_version(asked, language)
    files = asked.asked_files
    fields: dict[str, Any] = {"language": language.id}
    if asked.code is not None:
        if asked.entrypoint is not None:
            raise invalid("entrypoint: give code or entrypoint, not both", param="entrypoint")
        fields["code"] = asked.code
    else:
        fields["entrypoint"] = _entrypoint(asked, files, language)
    fields["files"] = [{"path": path, "content": content} for path, content in files]
    for name in ("args", "stdin", "env"):
        if (value := getattr(asked, name)) is not None:
            fields[name] = value
    said = "timeout" if asked.timeout is not None else "run_timeout"
    fields["limits"] = {"timeout_ms": _timeout_ms(asked, plan)}
    compiling: dict[str, int | float] = {}
    if asked.compile_timeout is not None:
        compiling["timeout_ms"] = asked.compile_timeout
    return RunToolsOrder(fields, _names(asked, said), compiling)


def _check_version(asked: RunToolsRequest, language: OfferedLanguage) -> None:
    wanted, installed = asked.version or "", str(language.public["version"] or "")
    if wanted in _ANY_VERSION or f"{installed}.".startswith(f"{wanted.rstrip('.')}."):
        return
    raise invalid(f"version: {language.id} is installed as {installed}; give that or *", param="version")


def _entrypoint(asked: RunToolsRequest, files: list[tuple[str, str]], language: OfferedLanguage) -> str:
    if asked.entrypoint is not None:
        return asked.entrypoint
    paths = [path for path, _ in files]
    if not paths:
        raise invalid("code: give code or files", param="code", code="missing_field")
    return language.entry_file if language.entry_file in paths else paths[0]


def _timeout_ms(asked: RunToolsRequest, plan: Plan | None) -> int:
    """Return the timeout asked for; up to the default, which clients send unasked, the plan's maximum if lower."""
    given = asked.timeout if asked.timeout is not None else asked.run_timeout
    wanted = DEFAULT_TIMEOUT_MS if given is None else given
    most = int(plan.ceiling("timeout_ms") if plan is not None else LIMIT_RULES["timeout_ms"].ceiling)
    return min(wanted, most) if wanted <= DEFAULT_TIMEOUT_MS else wanted


def _names(asked: RunToolsRequest, timeout: str) -> dict[str, str]:
    """Return what the client calls the fields of `POST /v1/runs`."""
    names = {"language": asked.names_language, "limits.timeout_ms": timeout}
    for index, (path, _) in enumerate(asked.asked_files):
        if isinstance(asked.files, dict):
            names[f"files.{index}.path"] = f"files.{shown_name(path)}"
        else:
            names[f"files.{index}.path"] = f"files.{index}.name"
    return names
