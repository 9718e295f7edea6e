"""From a job to what the agent is told: every rule of API.md checked again, every default filled in.

The worker does not rely on api having checked: this is the same contract, held on the other side of the wall.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from protocol import job as rules
from protocol import limits as limit_rules
from protocol.job import Job, JobInput, path_problem
from protocol.limits import JobInvalid, Limits
from sandbox.languages import Catalogue, Language
from storage import Blob

#: What a file takes of a tmpfs is a multiple of this.
PAGE_BYTES = 4096
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """The compile phase, which has limits of its own."""

    argv: tuple[str, ...]
    env: dict[str, str]
    limits: Limits


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """A checked job. `files` are (path beneath /work, bytes), the entry file among them; `inputs` are stored.

    `compiling` is None where there is nothing to compile.
    """

    language: Language
    limits: Limits
    argv: tuple[str, ...]
    args: tuple[str, ...]
    env: dict[str, str]
    files: tuple[tuple[str, bytes], ...]
    inputs: tuple[JobInput, ...]
    stdin: bytes
    warm: bool
    compiling: CompilePlan | None = None
    #: Which of the language's templates suits best; none in particular when empty.
    flavour: str = ""
    #: Whether the sandbox must be a container of its own.
    dedicated_container: bool = False
    #: Whose it is: where templates are not shared by all, the sandbox comes from one of this owner's.
    owner: str = ""

    @property
    def memory_mb(self) -> int:
        """Return the most memory that the run may use at any time, which is what it reserves."""
        return max(self.limits.memory_mb, self.compiling.limits.memory_mb if self.compiling else 0)


def build_plan(job: Job, catalogue: Catalogue, *, compile_timeout_ms: int | None = None) -> ExecutionPlan:
    """Check a job and resolve it. Raises JobInvalid naming the field and the bound.

    `compile_timeout_ms` is the most that compiling may take, by default COMPILE_TIMEOUT_MS.
    """
    language = catalogue.get(job.language)
    if language is None:
        known = ", ".join(catalogue.ids)
        raise JobInvalid(f"language: unknown; known are {known}", param="language", code="unknown_language")
    limits = Limits.resolve(job.limits, pids_default=language.pids_default)
    _check_strings(job)
    files = _files(job, language)
    entry = language.entry_file if job.code is not None else str(job.entrypoint)
    warm = (
        job.interpreter == "warm"
        and language.warm_mode != "none"
        and entry == language.entry_file
        and not language.affects_startup(job.env, (path for path, _ in files), job.args)
    )
    # A name that begins with a dash must not be taken for an option of the interpreter's.
    named = f"./{entry}" if entry.startswith("-") else entry
    return ExecutionPlan(
        language=language,
        limits=limits,
        argv=tuple(language.command(named)),
        args=job.args,
        env=language.live_env | job.env if job.live else job.env,
        files=files,
        inputs=_inputs(job, files, limits),
        stdin=_encoded("stdin", job.stdin, rules.MAX_STDIN_BYTES),
        warm=warm,
        compiling=_compiling(language, named, limits, compile_timeout_ms or limit_rules.COMPILE_TIMEOUT_MS),
        flavour=_flavour(language, job, entry, files) if warm else "",
        dedicated_container=job.isolation == "container",
        owner=job.key,
    )


def _flavour(language: Language, job: Job, entry: str, files: tuple[tuple[str, bytes], ...]) -> str:
    contents = dict(files)
    program = contents.pop(entry)
    beside = [*contents, *(item.path for item in job.inputs)]
    suiting = (flavour.name for flavour in language.flavours if flavour.matches(program, job.env, beside))
    return next(suiting, "")


def _compiling(language: Language, entry: str, limits: Limits, timeout_ms: int) -> CompilePlan | None:
    """Return the compile phase: never with less than it needs, since a run's limits are about its program."""
    compiler = language.compiler
    if compiler is None:
        return None
    own = replace(
        limits,
        timeout_ms=timeout_ms,
        cpu_ms=round(timeout_ms * limit_rules.COMPILE_CPUS),
        memory_mb=max(limits.memory_mb, compiler.memory_mb),
        cpus=limit_rules.COMPILE_CPUS,
        pids=max(limits.pids, limit_rules.COMPILE_PIDS),
    )
    return CompilePlan(argv=tuple(compiler.command(entry)), env=compiler.env, limits=own)


def _encoded(name: str, text: str, maximum: int) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as e:
        raise JobInvalid(f"{name}: holds a lone surrogate", param=name) from e
    if len(data) > maximum:
        raise JobInvalid(f"{name}: {len(data)} bytes exceed the maximum of {maximum}", param=name)
    return data


def _check_strings(job: Job) -> None:
    """Check args and env: their number, their length, and that each can be passed to a program."""
    for name, items, maximum in (("args", job.args, rules.MAX_ARGS), ("env", job.env, rules.MAX_ENV)):
        if len(items) > maximum:
            raise JobInvalid(f"{name}: {len(items)} entries exceed the maximum of {maximum}", param=name)
    for number, value in enumerate(job.args):
        _check_string(f"args.{number}", value)
    for key, value in job.env.items():
        if not _ENV_NAME.fullmatch(key):
            raise JobInvalid("env: a name must match [A-Za-z_][A-Za-z0-9_]*", param="env")
        _check_string(f"env.{key[:64]}", key + value)


def _check_string(name: str, value: str) -> None:
    if "\0" in value:
        raise JobInvalid(f"{name}: must not contain NUL", param=name)
    _encoded(name, value, rules.MAX_STRING_BYTES)


def _files(job: Job, language: Language) -> tuple[tuple[str, bytes], ...]:
    """Return the inline files and the entry file: no path twice, none inside another."""
    if (job.code is None) == (job.entrypoint is None):
        raise JobInvalid("code: give either code or entrypoint", param="code")
    if len(job.files) > rules.MAX_INLINE_FILES:
        raise JobInvalid(f"files: {len(job.files)} exceed the maximum of {rules.MAX_INLINE_FILES}", param="files")
    found: dict[str, bytes] = {}
    for number, file in enumerate(job.files):
        name = f"files.{number}.path"
        problem = path_problem(file.path)
        if problem is None and file.path in found:
            problem = "is given twice"
        if problem is None and job.code is not None and file.path == language.entry_file:
            problem = "is where code is written"
        if problem is not None:
            raise JobInvalid(f"{name}: {problem}", param=name)
        found[file.path] = file.content
    if sum(map(len, found.values())) > rules.MAX_BODY_BYTES:
        raise JobInvalid(f"files: exceed {rules.MAX_BODY_BYTES} bytes in all", param="files")
    if job.code is not None:
        if not job.code:
            raise JobInvalid("code: must not be empty", param="code")
        found[language.entry_file] = _encoded("code", job.code, rules.MAX_CODE_BYTES)
    elif job.entrypoint not in found:
        raise JobInvalid("entrypoint: must be the path of one of files", param="entrypoint")
    _check_nesting(found)
    return tuple(found.items())


def _inputs(job: Job, files: tuple[tuple[str, bytes], ...], limits: Limits) -> tuple[JobInput, ...]:
    """Return the files in storage: beneath /work/inputs, well-formed, and together no larger than /work."""
    if len(job.files) + len(job.inputs) > rules.MAX_INLINE_FILES:
        raise JobInvalid(f"files: exceed the maximum of {rules.MAX_INLINE_FILES}", param="files")
    found = dict(files)
    sizes = [len(content) for _, content in files]
    for number, item in enumerate(job.inputs):
        problem = path_problem(item.path)
        if problem is None and not item.path.startswith(f"{rules.INPUTS}/"):
            problem = f"must be beneath {rules.INPUTS}"
        if problem is None and item.path in found:
            problem = "is given twice"
        if problem is not None:
            raise JobInvalid(f"inputs.{number}.path: {problem}", param=f"inputs.{number}.path")
        try:
            Blob(item.sha256, item.size)
        except ValueError as e:
            raise JobInvalid(f"inputs.{number}: names no blob", param=f"inputs.{number}") from e
        found[item.path] = b""
        sizes.append(item.size)
    room = int(limits.memory_mb * limit_rules.MIB * rules.WORK_SHARE)
    needed = sum(-(-size // PAGE_BYTES) * PAGE_BYTES for size in sizes)
    if job.inputs and needed > room:
        raise JobInvalid(
            f"files: {needed} bytes exceed the {room} that /work holds with limits.memory_mb {limits.memory_mb}",
            param="files",
            code="files_too_large",
        )
    _check_nesting(found)
    return job.inputs


def _check_nesting(found: dict[str, bytes]) -> None:
    directories = {"outputs", "inputs"}
    for path in found:
        parts = path.split("/")
        directories.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for path in found:
        if path in directories:
            raise JobInvalid(f"files: {path[:100]!r} is both a file and a directory", param="files")
