"""The handlers of each language: their signature, and the runs that check, compile and call one.

A driver (`drivers/`) calls the handler. It is the entry file of the run, so that it starts in the interpreter that
waits; the files of the function stand beside it, where a run's own files would. The output of a handler is in a
file that is no artifact, so that all that it prints is the stdout of the run. Compiled languages have the driver
built in: the program that a build has left is started as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from api.runs.requests import FunctionUse, RunRequest
from protocol.function import INPUT_PATH, PROGRAM_PATH, RESERVED
from protocol.job import MAX_ARTIFACTS_BYTES, JobFile, JobInput
from protocol.limits import KIB, LIMIT_RULES

if TYPE_CHECKING:
    from api.keys.plans import Plan
    from protocol.function import Returns

DRIVERS = Path(__file__).parent / "drivers"
#: The file beneath /work/outputs that the build of a compiled function leaves.
BUILT = "program"
#: Of each output of a build, which becomes the function's log.
MAX_LOG_BYTES = 64 * KIB
#: The limits of a function that its build has too; its time is that of a run.
_BUILD_LIMITS = ("memory_mb", "cpus", "pids")
_LOWER_CASE = re.compile(rb"^func[ \t]+run[ \t]*\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of one language."""

    #: The file that `code` is written to.
    file: str
    signature: str
    returns: Returns
    #: The driver, and where it is written: nowhere else may a file of the function be.
    driver: str = ""
    entry: str = ""
    #: A further file of the driver, in the reserved folder.
    beside: str = ""
    is_compiled: bool = False
    #: The ending of its source files, which a compiled program does not need any more.
    ending: str = ""

    @property
    def takes_text(self) -> bool:
        """Return whether an input that is a string comes as it is, and not as JSON."""
        return self.returns != "json"


LANGUAGES = {
    "python": Handlers("handler.py", "def run(input)", "json", "main.py", "main.py", "rare.py"),
    "node": Handlers("handler.js", "export function run(input)", "json", "main.js", "main.js"),
    "typescript": Handlers("handler.ts", "export function run(input: any)", "json", "main.js", "main.ts"),
    "go": Handlers(
        "handler.go",
        "package main, and in it func Run(input string) (string, error)",
        "text",
        "main.go",
        "main.go",
        is_compiled=True,
        ending=".go",
    ),
    "rust": Handlers(
        "handler.rs",
        "pub fn run(input: String) -> Result<String, String>",
        "text",
        "main.rs",
        "main.rs",
        is_compiled=True,
        ending=".rs",
    ),
    "bash": Handlers("main.sh", "a script that reads its input from stdin and prints its output", "stdout"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """The files that a version was made of, and which of them has the handler."""

    language: str
    handler: str
    files: tuple[JobFile, ...]

    @property
    def handlers(self) -> Handlers:
        """Return the handlers of its language."""
        return LANGUAGES[self.language]


@dataclass(frozen=True, slots=True)
class Call:
    """A version that can be called. `program` is what was compiled; None for an interpreted language."""

    name: str
    version: int
    source: Source
    limits: dict[str, int | float]
    env: dict[str, str]
    packages: tuple[str, ...] = ()
    program: JobInput | None = None


def build_request(call: Call, run_id: str, plan: Plan | None) -> RunRequest:
    """Return the run that checks the handler of a version, or compiles it."""
    source, handlers = call.source, call.source.handlers
    use = FunctionUse(call.name, call.version, run_id, source.handler)
    limits = {name: value for name, value in call.limits.items() if name in _BUILD_LIMITS}
    for name, most in (
        ("max_output_bytes", MAX_LOG_BYTES),
        ("max_artifact_files", 1 if handlers.is_compiled else 0),
        ("max_artifact_bytes", MAX_ARTIFACTS_BYTES),
    ):
        ceiling = LIMIT_RULES[name].ceiling if plan is None else plan.ceiling(name)
        limits[name] = min(most, int(ceiling))
    if handlers.driver:
        entry, driver = handlers.entry, _driver(source)
        beside = _beside(handlers)
        args = ("build",) if handlers.is_compiled else (source.handler, "check")
    else:
        entry, driver, beside = f"{RESERVED}/check.sh", _read("check.sh"), ()
        args = (source.handler,)
    return _request(call, use, limits, entry, (JobFile(entry, driver), *source.files, *beside), args)


def call_request(
    call: Call, value: object, limits: dict[str, int | float], *, stream: bool = False, background: bool = False
) -> RunRequest:
    """Return the run that calls a version with an input, with those limits in place of some of its own."""
    return replace(_call_request(call, value, limits), stream=stream, background=background)


def _call_request(call: Call, value: object, limits: dict[str, int | float]) -> RunRequest:
    source, handlers = call.source, call.source.handlers
    use = FunctionUse(call.name, call.version, "", source.handler, handlers.returns)
    limits = call.limits | limits
    if not handlers.driver:
        request = _request(call, use, limits, source.handler, source.files, ())
        return replace(request, stdin=input_bytes(handlers, value).decode())
    given = JobFile(INPUT_PATH, input_bytes(handlers, value))
    if call.program is None:
        files = (JobFile(handlers.entry, _driver(source)), *source.files, *_beside(handlers), given)
        return _request(call, use, limits, handlers.entry, files, (source.handler, "call"))
    use = replace(use, handler="", inputs=(call.program,), executable=True)
    files = (*(file for file in source.files if not file.path.endswith(handlers.ending)), given)
    # Its packages are in the program.
    return _request(replace(call, packages=()), use, limits, PROGRAM_PATH, files, ())


def input_bytes(handlers: Handlers, value: object) -> bytes:
    """Return an input as a handler of that language gets it."""
    if handlers.takes_text and isinstance(value, str):
        return value.encode()
    return orjson.dumps(value)


def _request(
    call: Call,
    use: FunctionUse,
    limits: dict[str, int | float],
    entrypoint: str,
    files: tuple[JobFile, ...],
    args: tuple[str, ...],
) -> RunRequest:
    common: dict[str, Any] = {"language": call.source.language, "env": call.env, "limits": limits}
    return RunRequest(
        **common,
        code=None,
        entrypoint=entrypoint,
        files=files,
        args=args,
        stdin="",
        isolation="default",
        metadata={},
        packages=call.packages,
        function=use,
    )


def _driver(source: Source) -> bytes:
    """Return the driver of a source: in compiled languages it names the handler."""
    text = _read(source.handlers.driver)
    handler = next(file.content for file in source.files if file.path == source.handler)
    if source.language == "go" and _LOWER_CASE.search(handler):
        return text.replace(b":= Run(", b":= run(")
    if source.language == "rust":
        path = source.handler.replace("\\", "\\\\").replace('"', '\\"')
        return text.replace(b'"handler.rs"', f'"{path}"'.encode())
    return text


def _beside(handlers: Handlers) -> tuple[JobFile, ...]:
    return (JobFile(f"{RESERVED}/{handlers.beside}", _read(handlers.beside)),) if handlers.beside else ()


@cache
def _read(name: str) -> bytes:
    return (DRIVERS / name).read_bytes()
