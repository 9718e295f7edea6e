"""Translate a request of Piston's `execute` into the fields of `POST /v1/runs`.

The checks and their messages are Piston's, in its order. A value that Piston would fail on with an empty error, or
that no run can have, is refused with a message of the same form.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from posixpath import splitext
from typing import TYPE_CHECKING, Any

from api.dialects.piston.runtimes import LanguageRuntime, unknown_runtime
from api.errors import invalid
from protocol.job import MAX_INLINE_FILES, path_problem
from protocol.limits import COMPILE_CPUS, COMPILE_TIMEOUT_MS, LIMIT_RULES, MIB

if TYPE_CHECKING:
    from api.keys.plans import Plan

UTF8 = "utf8"
_ENCODINGS = (UTF8, "base64", "hex")
#: Suffixes that a main file must have one of, by the id of our language; others are run under any name.
_SUFFIXES = {
    "bun": frozenset({".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"}),
    "deno": frozenset({".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"}),
    "go": frozenset({".go"}),
    "typescript": frozenset({".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"}),
}


@dataclass(frozen=True, slots=True)
class ExecuteRequest:
    """A request that can be run: by what, as what, and what its compile stage may take."""

    runtime: LanguageRuntime
    #: The fields of `POST /v1/runs`.
    fields: dict[str, Any]
    compile_limits: dict[str, int | float] = field(default_factory=dict)


def parse_execute(
    body: dict[str, Any], find: Callable[[str, str], LanguageRuntime | None], plan: Plan | None
) -> ExecuteRequest:
    """Return what a request asks for; `find` returns the runtime of a language and a selector.

    Raises ApiError 400 with Piston's message.
    """
    language, version, files = _text(body, "language"), _text(body, "version"), body.get("files")
    if not isinstance(files, list):
        raise invalid("files is required as an array")
    for index, file in enumerate(files):
        if not isinstance(file, dict) or not isinstance(file.get("content"), str):
            raise invalid(f"files[{index}].content is required as a string")
    runtime = find(language, version)
    if runtime is None:
        raise invalid(unknown_runtime(language, version))
    main = next((at for at, file in enumerate(files) if file.get("encoding") in (None, "", UTF8)), None)
    if main is None:
        raise invalid("files must include at least one utf8 encoded file")
    limits = _limits(body, plan)
    paths = _paths(files, main, runtime)
    fields: dict[str, Any] = {
        "language": runtime.id,
        "files": [
            {"path": path, **_content(file, f"files[{at}]")}
            for at, (path, file) in enumerate(zip(paths, files, strict=True))
        ],
        "entrypoint": paths[main],
        "args": _args(body),
        "stdin": _stdin(body),
        # Its files are no part of Piston's answer, so none are kept.
        "limits": {"max_artifact_files": 0, **_stage_limits(limits, "run")},
    }
    return ExecuteRequest(runtime, fields, _stage_limits(limits, "compile"))


# -- limits ------------------------------------------------------------------------------------------


def _limits(body: dict[str, Any], plan: Plan | None) -> dict[str, float]:
    """Return the limits that a request names. Raises ApiError 400 for one that is no number or out of bounds."""
    found: dict[str, float] = {}
    for name, ceiling in _CEILINGS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(f"If specified, {name} must be a number")
        if value == 0 or (value == -1 and name.endswith("memory_limit")):
            continue  # no limit of its own
        if value > (most := ceiling(plan)):
            raise invalid(f"{name} cannot exceed the configured limit of {most}")
        if value < 0:
            raise invalid(f"{name} must be non-negative")
        found[name] = value
    return found


def _most(plan: Plan | None, limit: str) -> int:
    return int(LIMIT_RULES[limit].ceiling if plan is None else plan.ceiling(limit))


#: The largest value of each limit for a plan, in Piston's units and in the order in which Piston checks them.
#: Compiling has bounds of its own, independent of the plan.
_CEILINGS: dict[str, Callable[[Plan | None], int]] = {
    "compile_memory_limit": lambda _plan: _most(None, "memory_mb") * MIB,
    "run_memory_limit": lambda plan: _most(plan, "memory_mb") * MIB,
    "compile_timeout": lambda _plan: COMPILE_TIMEOUT_MS,
    "run_timeout": lambda plan: _most(plan, "timeout_ms"),
    "compile_cpu_time": lambda _plan: round(COMPILE_TIMEOUT_MS * COMPILE_CPUS),
    "run_cpu_time": lambda plan: _most(plan, "cpu_ms"),
}


def _stage_limits(limits: dict[str, float], stage: str) -> dict[str, int | float]:
    """Return the limits of a stage, in the units of this service."""
    found: dict[str, int | float] = {}
    if (timeout := limits.get(f"{stage}_timeout")) is not None:
        found["timeout_ms"] = math.ceil(timeout)
    if (cpu_time := limits.get(f"{stage}_cpu_time")) is not None:
        found["cpu_ms"] = math.ceil(cpu_time)
    if (memory := limits.get(f"{stage}_memory_limit")) is not None:
        found["memory_mb"] = max(int(LIMIT_RULES["memory_mb"].minimum), math.ceil(memory / MIB))
    return found


# -- the program and its input -----------------------------------------------------------------------


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"{name} is required as a string")
    return value


def _args(body: dict[str, Any]) -> list[str]:
    args = body.get("args")
    if args is None:
        return []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise invalid("If specified, args must be an array of strings")
    return args


def _stdin(body: dict[str, Any]) -> str:
    """Return the input; Piston ends it with a newline, also where there is none."""
    stdin = body.get("stdin")
    if stdin is None:
        stdin = ""
    if not isinstance(stdin, str):
        raise invalid("If specified, stdin must be a string")
    return stdin if stdin.endswith("\n") else stdin + "\n"


def _paths(files: list[dict[str, Any]], main: int, runtime: LanguageRuntime) -> list[str]:
    """Return the path of each file. Raises ApiError 400 naming a file that cannot have its name."""
    if len(files) > MAX_INLINE_FILES:
        raise invalid(f"files must have at most {MAX_INLINE_FILES} entries")
    named = [_name(file, f"files[{at}]") for at, file in enumerate(files)]
    taken: set[str] = set()
    folders: set[str] = set()
    paths: list[str] = []
    for at, name in enumerate(named):
        path = _main_path(name, named, runtime) if at == main else name or f"file{at}.code"
        parts = path.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if path in taken or path in folders or not taken.isdisjoint(above):
            raise invalid(f"files[{at}].name is that of another file, or of its folder")
        taken.add(path)
        folders |= above
        paths.append(path)
    return paths


def _name(file: dict[str, Any], where: str) -> str:
    """Return a file's name as a path in the working directory; empty where it has none."""
    name = file.get("name")
    if name is None or name == "":
        return ""
    if not isinstance(name, str):
        raise invalid(f"{where}.name must be a string")
    path = "/".join(part for part in name.split("/") if part not in ("", ".")) if name[0] != "/" else name
    problem = path_problem(path)
    if problem is None and path in ("inputs", "outputs"):
        problem = "is a folder of every run"
    if problem is not None:
        raise invalid(f"{where}.name {problem}")
    return path


def _main_path(name: str, named: list[str], runtime: LanguageRuntime) -> str:
    """Return the path of the main file: with a suffix that its language takes."""
    if not name:
        # The name that costs no start of an interpreter, unless another file has it.
        return runtime.entry_file if runtime.entry_file not in named else f"file0.{runtime.entry_file}"
    wanted = _SUFFIXES.get(runtime.id)
    if wanted is None or splitext(name)[1] in wanted:
        return name
    return name + splitext(runtime.entry_file)[1]


def _content(file: dict[str, Any], where: str) -> dict[str, str]:
    content: str = file["content"]
    encoding = file.get("encoding")
    if encoding is not None and not isinstance(encoding, str):
        raise invalid(f"{where}.encoding must be a string")
    try:
        if encoding == "base64":
            return {"content": _base64(content), "encoding": "base64"}
        if encoding == "hex":
            data = binascii.unhexlify(content)
            return {"content": base64.b64encode(data).decode(), "encoding": "base64"}
    except ValueError as e:
        raise invalid(f"{where}.content is not valid {encoding}") from e
    return {"content": content}


def _base64(text: str) -> str:
    """Return base64 with its padding and the common alphabet; lines, and the alphabet of URLs, are taken too."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    padded = plain + "=" * (-len(plain) % 4)
    base64.b64decode(padded, validate=True)
    return padded
