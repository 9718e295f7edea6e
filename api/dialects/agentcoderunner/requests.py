"""Read agent-coderunner's requests and translate them into runs and sessions within its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.dialects.agentcoderunner.languages import DEFAULT, IDS, id_of
from api.errors import invalid
from api.http.field_names import FieldNames
from api.http.query import parse_int
from api.http.validation import shape_error
from protocol.limits import KIB, LIMIT_RULES, MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.keys.plans import Plan

#: agent-coderunner's own limits.
MAX_TIMEOUT_MS = 30_000
MEMORY_MB = 256
PROCESSES = 64
OUTPUT_BYTES = 512 * KIB
MAX_CODE_BYTES = 100 * KIB
MAX_FILE_BYTES = 10 * MIB
#: The limits of a program, and those of a session; a plan may have lower ones.
_RUN_LIMITS: dict[str, int] = {"memory_mb": MEMORY_MB, "pids": PROCESSES, "max_output_bytes": OUTPUT_BYTES}
_SESSION_LIMITS: dict[str, int] = {"memory_mb": MEMORY_MB, "pids": PROCESSES}
#: No call answers with the artifacts of a run; the files of a session stay in it.
_NO_ARTIFACTS = {"max_artifact_files": 0}
#: The client's names for the fields of a run.
NAMES = {"limits.timeout_ms": "timeout"}
METADATA = {"dialect": "agent-coderunner"}
#: The most parameters of a query.
MAX_PARAMETERS = 64


class CellRequest(BaseModel):
    """The body of an execution in a session. Null is the same as leaving a field out. Others are ignored."""

    model_config = ConfigDict(strict=True)

    code: str | None = Field(default=None, description=f"The program; at most {MAX_CODE_BYTES} bytes of UTF-8.")
    timeout: int | None = Field(
        default=None,
        description=f"Milliseconds, 1 to {MAX_TIMEOUT_MS}; by default the most. A lower plan lowers it.",
    )
    stdin: str | None = Field(default=None, description="The input of the program.")


class ProgramRequest(CellRequest):
    """The body of `POST /api/execute`. Null is the same as leaving a field out. Others are ignored."""

    language: str | None = Field(default=None, description=f"One of {', '.join(IDS)}; `{DEFAULT}` by default.")


class NewSessionRequest(BaseModel):
    """The body of `POST /api/sessions`. Null is the same as leaving a field out. Others are ignored."""

    model_config = ConfigDict(strict=True)

    language: str | None = Field(default=None, description=f"One of {', '.join(IDS)}; `{DEFAULT}` by default.")


Model = TypeVar("Model", bound=BaseModel)
Cell = TypeVar("Cell", bound=CellRequest)
_NAMES: dict[type[BaseModel], FieldNames] = {
    model: FieldNames.of(model) for model in (CellRequest, ProgramRequest, NewSessionRequest)
}


def parse_execute(data: dict[str, Any]) -> ProgramRequest:
    """Return the request of a single execution. Raises ApiError 400."""
    return _checked(_parsed(ProgramRequest, data))


def parse_cell(data: dict[str, Any]) -> CellRequest:
    """Return the request of an execution in a session. Raises ApiError 400."""
    return _checked(_parsed(CellRequest, data))


def parse_query(text: bytes) -> dict[str, str]:
    """Return the parameters of a query, each given once; `key` is not among them. Raises ApiError 400."""
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except UnicodeDecodeError as e:
        raise invalid("the query must be percent-encoded UTF-8") from e
    except ValueError as e:
        raise invalid(f"the query has more than {MAX_PARAMETERS} parameters", code="too_many") from e
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found and name in ("code", "stdin", "timeout", "limit", "cursor", "sessionId"):
            raise invalid(f"{name}: is given twice", param=name)
        found[name] = value
    found.pop("key", None)
    return found


def request_of_query(language: str, query: Mapping[str, str]) -> ProgramRequest:
    """Return the execution that `GET /api/run/{language}` asks for. Raises ApiError 400."""
    timeout = parse_int(query["timeout"], "timeout", 1, MAX_TIMEOUT_MS, 0) if "timeout" in query else None
    return parse_execute(
        {"language": language, "code": query.get("code"), "stdin": query.get("stdin"), "timeout": timeout}
    )


def run_fields(asked: ProgramRequest, plan: Plan | None) -> dict[str, Any]:
    """Return the fields of `POST /v1/runs` for an execution. Raises ApiError 400."""
    limits = _within(_RUN_LIMITS | {"timeout_ms": asked.timeout or MAX_TIMEOUT_MS}, plan) | _NO_ARTIFACTS
    return {"language": id_of(asked.language), **_program(asked), "limits": limits}


def cell_fields(asked: CellRequest, language: str, plan: Plan | None, most_timeout_ms: int) -> dict[str, Any]:
    """Return the fields of `POST /v1/sessions/{id}/runs` for an execution; `language` is the session's id of it.

    The time of a run in a session has a bound of its own, the service's and the plan's.
    """
    own_ms = None if plan is None else plan.session_timeout_ms
    most = min(most_timeout_ms, most_timeout_ms if own_ms is None else own_ms)
    limits = _within({"max_output_bytes": OUTPUT_BYTES}, plan) | _NO_ARTIFACTS
    limits["timeout_ms"] = min(asked.timeout or MAX_TIMEOUT_MS, most)
    return {"language": language, **_program(asked), "limits": limits}


def session_fields(data: dict[str, Any], plan: Plan | None) -> dict[str, Any]:
    """Return the fields of `POST /v1/sessions` for a request. Raises ApiError 400."""
    asked = _parsed(NewSessionRequest, data)
    return {
        "language": id_of(asked.language),
        "limits": _within(_SESSION_LIMITS, plan),
        "metadata": METADATA,
    }


def _parsed(model: type[Model], data: dict[str, Any]) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise shape_error(e, _NAMES[model]) from e


def _checked(asked: Cell) -> Cell:
    """Return a request that keeps the limits. Raises ApiError 400 naming the first field that does not."""
    if not asked.code:
        raise invalid("code: is required, and must not be empty", param="code", code="missing_field")
    if len(asked.code) > MAX_CODE_BYTES or len(asked.code.encode()) > MAX_CODE_BYTES:
        size = len(asked.code.encode())
        raise invalid(f"code: {size} bytes, the maximum is {MAX_CODE_BYTES}", param="code", code="too_long")
    if asked.timeout is not None and not 1 <= asked.timeout <= MAX_TIMEOUT_MS:
        raise invalid(f"timeout: must be an integer from 1 to {MAX_TIMEOUT_MS} (milliseconds)", param="timeout")
    return asked


def _program(asked: CellRequest) -> dict[str, Any]:
    return {"code": asked.code} | ({} if asked.stdin is None else {"stdin": asked.stdin})


def _within(limits: Mapping[str, int], plan: Plan | None) -> dict[str, int]:
    """Return the limits, lowered to those of the plan: clients do not name them."""
    return {
        name: min(value, int(LIMIT_RULES[name].ceiling if plan is None else plan.ceiling(name)))
        for name, value in limits.items()
    }
