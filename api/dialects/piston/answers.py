"""Make Piston's answers: of an ended run, of one that the service failed, and of errors."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING, Any

import orjson
from flask import Response

from api.dialects.answers import exact_json
from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.dialects.piston.translate import ExecuteRequest

Stage = dict[str, Any]

_TIME = "Time limit exceeded"
_WALL_TIME = "Time limit exceeded (wall clock)"
_KILLED = "SIGKILL"


def render(error: ApiError) -> Response:
    """Return an error in Piston's shape."""
    message = "Not Found" if error.error.code == "not_found" else error.error.message
    return exact_json({"message": message}, error.status, error.headers)


def executed(asked: ExecuteRequest, run: dict[str, Any], in_order: Callable[[], str | None]) -> bytes:
    """Return the answer of an ended run.

    `in_order` is asked for both outputs in the order in which they were written, where a program wrote to both.
    """
    answer: dict[str, Any] = {}
    if run["compile"] is not None:
        answer["compile"] = _compile_stage(asked, run)
    compiled = answer.get("compile")
    if compiled is not None and compiled["code"] != 0:
        answer["run"] = compiled
    else:
        answer["run"] = _run_stage(run, in_order)
    return _answer(asked, answer)


def failed(asked: ExecuteRequest, error: ApiError) -> bytes:
    """Return the answer of a run that the service failed."""
    return _answer(asked, {"run": _stage("", "", "", message=error.error.message, status="XX")})


def run_exit(run: dict[str, Any]) -> tuple[int | None, str | None]:
    """Return the exit code and the signal of an ended run's program."""
    return _run_end(run)[:2]


def compile_exit(asked: ExecuteRequest, run: dict[str, Any]) -> tuple[int | None, str | None]:
    """Return the exit code and the signal of an ended run's compiler."""
    return _compile_end(asked, run)[:2]


def _answer(asked: ExecuteRequest, stages: dict[str, Stage]) -> bytes:
    runtime = asked.runtime
    return orjson.dumps({**stages, "language": runtime.language, "version": str(runtime.version)})


def _run_stage(run: dict[str, Any], in_order: Callable[[], str | None]) -> Stage:
    stdout, stderr, used = run["stdout"], run["stderr"], run["usage"]
    output = (in_order() if stdout and stderr else None) or stdout + stderr
    code, signal, status, message = _run_end(run)
    return _stage(
        stdout,
        stderr,
        output,
        code=code,
        signal=signal,
        message=message,
        status=status,
        cpu_time=used["cpu_ms"],
        wall_time=used["wall_ms"],
        memory=used["max_rss_mb"] * 1024 * 1024,
    )


_End = tuple[int | None, str | None, str | None, str | None]
_OUT_CUT: _End = (None, _KILLED, "OL", "stdout length exceeded")
_ERR_CUT: _End = (None, _KILLED, "EL", "stderr length exceeded")


def _run_end(run: dict[str, Any]) -> _End:
    """Return code, signal, status and message: those of Piston for the first fact that applies."""
    if run["stdout_truncated"]:
        return _OUT_CUT
    if run["stderr_truncated"]:
        return _ERR_CUT
    match run["status"]:
        case "timeout":
            used_up = run["usage"]["cpu_ms"] >= run["limits"]["cpu_ms"]
            return None, _KILLED, "TO", _TIME if used_up else _WALL_TIME
        case "oom":
            return _signalled(_KILLED)
        case "cancelled":
            return None, _KILLED, "XX", "The run was cancelled"
        case "killed":
            return None, _KILLED, "XX", "The sandbox was ended"
    if run["signal"] is not None:
        return _signalled(run["signal"])
    return _exited(run["exit_code"])


def _compile_stage(asked: ExecuteRequest, run: dict[str, Any]) -> Stage:
    compiled = run["compile"]
    code, signal, status, message = _compile_end(asked, run)
    return _stage(
        compiled["stdout"],
        compiled["stderr"],
        compiled["stdout"] + compiled["stderr"],
        code=code,
        signal=signal,
        message=message,
        status=status,
        cpu_time=compiled["cpu_ms"],
        wall_time=compiled["wall_ms"],
    )


def _compile_end(asked: ExecuteRequest, run: dict[str, Any]) -> _End:
    compiled = run["compile"]
    code = compiled["exit_code"]
    if code and run["status"] == "oom":
        return _signalled(_KILLED)  # one of its processes was killed, and the first of them says that it failed
    if code is not None:
        return _exited(code)
    match run["status"]:
        case "timeout":
            most = asked.compile_limits.get("cpu_ms")
            used_up = most is not None and compiled["cpu_ms"] >= most
            return None, _KILLED, "TO", _TIME if used_up else _WALL_TIME
        case "cancelled":
            return None, _KILLED, "XX", "The run was cancelled"
        case "killed":
            return _wrote_too_much(compiled, run["limits"]["max_output_bytes"])
    return _signalled(_KILLED)


def _wrote_too_much(compiled: dict[str, Any], most: int) -> _End:
    """Return the end of a compiler that was killed, by the stream that is full."""
    if len(compiled["stdout"].encode()) >= most:
        return _OUT_CUT
    if len(compiled["stderr"].encode()) >= most:
        return _ERR_CUT
    return None, _KILLED, "XX", "The sandbox was ended"


def _exited(code: int | None) -> _End:
    if code == 0:
        return 0, None, None, None
    return code, None, "RE", f"Exited with error status {code}"


def _signalled(name: str) -> _End:
    number = signals.Signals[name].value if name in signals.Signals.__members__ else None
    return None, name, "SG", f"Caught fatal signal {name if number is None else number}"


def _stage(  # one argument per field of the answer
    stdout: str,
    stderr: str,
    output: str,
    *,
    code: int | None = None,
    signal: str | None = None,
    message: str | None = None,
    status: str | None = None,
    cpu_time: int | None = None,
    wall_time: int | None = None,
    memory: int | None = None,
) -> Stage:
    return {
        "stdout": stdout,
        "stderr": stderr,
        "code": code,
        "signal": signal,
        "output": output,
        "memory": memory,
        "message": message,
        "status": status,
        "cpu_time": cpu_time,
        "wall_time": wall_time,
    }
