"""Write the hints: a sentence or two of the service's own for each code, and the fields that programs read.

Quoted texts come from the output, so they are bounded and printable (`text.quoted`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from protocol.hints import MAX_AVAILABLE, MAX_MESSAGE, HintCode, HintData
from sandbox.hints.modules import available_modules
from sandbox.hints.near import near_names, sorted_by_nearness
from sandbox.hints.text import quoted

if TYPE_CHECKING:
    from sandbox.hints.facts import HintFacts

#: The groups of a row that were found.
Found = Mapping[str, str]

WORK = "/work/"
#: The mark between a module and a part of it; in most languages a slash.
_INSIDE = {"python": ".", "rust": "::"}
_PROGRAMS_FILES = (".py", ".rb", ".js", ".mjs", ".cjs", ".ts", ".mts", ".json")


def hint(code: HintCode, message: str, **fields: object) -> HintData:
    """Return a hint; fields that are None are left out."""
    data: HintData = {"code": code, "message": quoted(message, MAX_MESSAGE)}
    data.update((name, value) for name, value in fields.items() if value is not None)
    return data


def found_in_output(code: HintCode, facts: HintFacts, found: Found) -> HintData | None:
    """Return the hint of a row that was found; None if the facts contradict it."""
    return _BY_CODE[code](facts, found)


def timed_out(facts: HintFacts) -> HintData:
    """Return the hint for a run that was ended by its time."""
    if facts.compiler_output is not None:
        return hint("timed_out", "The compiler was ended because it took too long; the program was not started.")
    limits = facts.limits
    if facts.wall_ms >= limits.timeout_ms:
        message = (
            f"The program was ended after limits.timeout_ms ({limits.timeout_ms} ms). Raise it, or look for a "
            "loop or a wait that does not end."
        )
        return hint("timed_out", message, limit="timeout_ms")
    message = (
        f"The program was ended after it had used limits.cpu_ms ({limits.cpu_ms} ms) of processor time. Raise it, "
        "or look for a loop that does not end."
    )
    return hint("timed_out", message, limit="cpu_ms")


def out_of_memory(facts: HintFacts, _found: Found) -> HintData:
    """Return the hint for a run without enough memory, or one of whose processes was killed for it."""
    if facts.compiler_output is not None and facts.oom_killed:
        message = "The compiler ran out of memory; the program was not started."
        return hint("out_of_memory", message)
    what = "A process was killed because" if facts.oom_killed else "The program could not get memory:"
    message = (
        f"{what} all processes and files together may use limits.memory_mb ({facts.limits.memory_mb} MiB). "
        "Raise it, or hold less in memory at a time."
    )
    return hint("out_of_memory", message, limit="memory_mb")


def pids_exhausted(facts: HintFacts, _found: Found) -> HintData:
    """Return the hint for a run that was refused a process or thread."""
    message = (
        f"A new process or thread was refused: at most limits.pids ({facts.limits.pids}) of them may exist at the "
        "same time. Raise it, or start fewer."
    )
    return hint("pids_exhausted", message, limit="pids")


def _disk_full(facts: HintFacts, _found: Found) -> HintData:
    if facts.in_session:
        message = "A file system is full: /work holds limits.disk_mb of the session. Delete files, or ask for more."
        return hint("disk_full", message, limit="disk_mb")
    message = (
        "A file system is full: /work holds half of limits.memory_mb "
        f"({facts.limits.memory_mb} MiB), /tmp and /dev/shm less. Raise it, or write less."
    )
    return hint("disk_full", message, limit="memory_mb")


def _module_not_found(facts: HintFacts, found: Found) -> HintData | None:
    name = found.get("name", "").strip()
    if not name:
        return None
    near = _near_modules(facts, name)
    kind = "command" if facts.language == "bash" else "module"
    message = f"There is no {kind} '{quoted(name)}' here."
    if near:
        message += f" Available: {', '.join(near)}."
    elif name.startswith((".", "/")):
        message += " It is the path of a file: send that file with the run."
    elif facts.language in ("go", "rust"):
        message += " Only the standard library is available."
    elif kind == "module":
        message += " GET /v1/languages lists the packages that are installed."
    return hint("module_not_found", message, name=quoted(name), near=near)


def _near_modules(facts: HintFacts, name: str) -> list[str]:
    if name.startswith((".", "/", "file:")):
        stems = {posixpath.splitext(path)[0]: path for path in facts.files() if path.endswith(_PROGRAMS_FILES)}
        wanted = posixpath.splitext(posixpath.basename(name))[0]
        by_name = {posixpath.basename(stem): path for stem, path in stems.items()}
        exact = [by_name[wanted]] if wanted in by_name else []
        return [quoted(path) for path in exact or [by_name[each] for each in near_names(wanted, by_name)]]
    known = available_modules(facts.image, facts.language) if facts.image is not None else frozenset()
    top = name.partition(_INSIDE.get(facts.language, "/"))[0]
    if top != name and top in known and facts.language not in ("go", "bash"):
        return [top]
    own = {stem for path in facts.files() if (stem := _own_module(path, facts.language))}
    return [quoted(each) for each in near_names(name, known | own, synonyms=facts.language == "python")]


def _own_module(path: str, language: str) -> str:
    """Return the name by which a program of Python can import a file of the run; empty for other files."""
    if language != "python":
        return ""
    first, slash, _ = path.partition("/")
    if slash:
        return first if first not in ("inputs", "outputs") and path.endswith(".py") else ""
    return first.removesuffix(".py") if first.endswith(".py") else ""


def _network_disabled(facts: HintFacts, found: Found) -> HintData:
    host = found.get("host")
    shown = None if host is None else quoted(host)
    to = "" if shown is None else f" '{shown}' cannot be reached."
    if facts.has_network:
        message = (
            f"A connection failed.{to} The run reaches only the hosts of network.allow, and only through the HTTP "
            "proxy that the variables HTTP_PROXY and HTTPS_PROXY name."
        )
    else:
        message = (
            f"The sandbox has no network.{to} Send the data with the run in `files`, or ask for hosts with "
            "network.allow if the service offers it."
        )
    return hint("network_disabled", message, host=shown)


def _file_not_found(facts: HintFacts, found: Found) -> HintData:
    path = found.get("path")
    files = facts.files()
    if path is None:
        message, shown = "A file that the program opened does not exist.", None
        ordered = sorted(files)
    else:
        shown = quoted(path)
        message = f"There is no file '{shown}'."
        ordered = sorted_by_nearness(path, files)
        if ordered and posixpath.basename(path) == posixpath.basename(ordered[0]):
            message += f" There is {WORK}{quoted(ordered[0])}."
    available = [quoted(file) for file in ordered[:MAX_AVAILABLE]]
    message += f" Files of this run in {WORK}: {', '.join(available) or 'none'}."
    return hint("file_not_found", message, path=shown, available=available)


def _read_only(_facts: HintFacts, found: Found) -> HintData:
    path = found.get("path")
    shown = None if path is None else quoted(path)
    which = "A file" if shown is None else f"'{shown}'"
    message = f"{which} cannot be written: only /work, /tmp and /dev/shm can."
    return hint("read_only", message, path=shown)


def _syscall_refused(_facts: HintFacts, _found: Found) -> HintData:
    message = "The sandbox refuses this operation: it needs rights that programs do not have here."
    return hint("syscall_refused", message)


def _input_exhausted(_facts: HintFacts, _found: Found) -> HintData:
    message = "The program read more input than it was given. Send what it asks for in `stdin`."
    return hint("input_exhausted", message)


def _syntax_error(_facts: HintFacts, found: Found) -> HintData:
    path, line = found.get("path"), found.get("line")
    number = None if line is None else int(line)
    place = f" in line {number}" if number is not None else ""
    if path is not None:
        path = quoted(path.removeprefix(WORK).removeprefix("./"))
        place += f" of {path}"
    what = found.get("what")
    reason = f": {quoted(what)}" if what else "."
    return hint("syntax_error", f"There is a syntax error{place}{reason}", path=path, line=number)


_BY_CODE: dict[HintCode, Callable[[HintFacts, Found], HintData | None]] = {
    "module_not_found": _module_not_found,
    "network_disabled": _network_disabled,
    "file_not_found": _file_not_found,
    "read_only": _read_only,
    "out_of_memory": out_of_memory,
    "pids_exhausted": pids_exhausted,
    "disk_full": _disk_full,
    "syscall_refused": _syscall_refused,
    "input_exhausted": _input_exhausted,
    "syntax_error": _syntax_error,
}
