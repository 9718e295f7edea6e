"""From a job to the agent's instructions: every rule of the API checked again, every default filled in.

The worker does not rely on api's checks: it enforces the same contract on its side of the socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from config.network_patterns import MAX_PATTERNS, PatternInvalid, parse_pattern
from protocol import job as rules
from protocol import limits as limit_rules
from protocol.function import MAX_OUTPUT_BYTES, Returns
from protocol.job import Job, JobInput, outputs_problem, path_problem
from protocol.limits import JobInvalid, Limits
from protocol.network import NetworkAccess, proxy_environment
from protocol.packages import MAX_BOUNDED_BYTES, ecosystem_of, parse_requests
from protocol.session import RUN_RULES
from sandbox.languages import KERNEL_FLAVOUR, Catalogue, Language
from sandbox.run.package_layers import ReadyLayer
from storage import Blob

#: The size of a file on a tmpfs is a multiple of this.
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
    #: True if the program, or its compiler, is ended when it writes more than is kept.
    ends_when_cut: bool = False
    #: True if the sandbox must be a container of its own.
    dedicated_container: bool = False
    #: The hosts that it may reach; None: it has no network.
    network: NetworkAccess | None = None
    #: The cell of a context that it is; None: a program of its own.
    code: bytes | None = None
    #: True if more input may come while it runs.
    stdin_open: bool = False
    #: Its owner: if templates are not shared by all, the sandbox is forked from one of this owner's.
    owner: str = ""
    #: The directory beneath /work whose new or changed files are artifacts; `.` is /work itself.
    outputs: str = rules.DEFAULT_OUTPUTS
    #: True if it runs in a session.
    in_session: bool = False
    #: The packages that its sandbox is to have, in normal form and sorted; and the place of each in the request.
    packages: tuple[str, ...] = ()
    package_places: tuple[int, ...] = ()
    #: The layer with these packages, once it is ready, and its id; a run of a session has the id alone.
    layer_id: str | None = None
    layer: ReadyLayer | None = None

    def place_of(self, package: int | None) -> int | None:
        """Return the place in the request of one of `packages`; None for none of them."""
        return place_of(self.package_places, package)

    #: The form of a function's output; empty for a run that is no call.
    returns: Returns = ""
    #: The input that is started itself, and so must be executable; empty where there is none.
    program: str = ""

    def as_cell(self) -> ExecutionPlan:
        """Return the same plan with its code as a cell of a kernel, and not as a file."""
        files = dict(self.files)
        code = files.pop(self.language.entry_file)
        return replace(self, files=tuple(files.items()), code=code)

    @property
    def has_output_file(self) -> bool:
        """Return whether a function's output is in a file beside the artifacts."""
        return self.returns in ("json", "text")

    @property
    def collected(self) -> Limits:
        """Return the limits that the agent collects files by: with room for a function's output."""
        if not self.has_output_file:
            return self.limits
        return replace(
            self.limits,
            max_artifact_files=self.limits.max_artifact_files + 1,
            max_artifact_bytes=max(self.limits.max_artifact_bytes, MAX_OUTPUT_BYTES),
        )

    @property
    def collected_bytes(self) -> int:
        """Return the most bytes that the agent sends of all files together."""
        return rules.MAX_ARTIFACTS_BYTES + (MAX_OUTPUT_BYTES if self.has_output_file else 0)

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
    limits = Limits.resolve(
        job.limits, pids_default=language.pids_default, rules=RUN_RULES if job.session else None
    )
    _check_strings(job)
    check_network(job.network)
    # The environment of a run that reaches hosts names the proxy, unless the run names another.
    env = job.env if job.network is None else proxy_environment() | job.env
    files = _files(job, language)
    if job.executable and (job.code is not None or job.session):
        raise JobInvalid("executable: not together with code or a session", param="executable")
    if job.results:
        _check_results(job, catalogue, language)
    if job.packages and job.session:
        raise JobInvalid("packages: are given when a session is created", param="packages", code="not_supported")
    packages, places = check_packages(language.id, job.packages)
    # In a session its contexts have results anyway.
    is_cell = job.results and not job.session
    entry = language.entry_file if job.code is not None else str(job.entrypoint)
    warm = (
        job.interpreter == "warm"
        and language.warm_mode != "none"
        and entry == language.entry_file
        and not job.executable
        and not language.affects_startup(env, (path for path, _ in files), job.args)
    )
    # A name that begins with a dash must not be taken for an option of the interpreter's.
    named = f"./{entry}" if entry.startswith("-") else entry
    plan = ExecutionPlan(
        language=language,
        limits=limits,
        argv=(f"./{entry}",) if job.executable else tuple(language.command(named)),
        args=job.args,
        # A cell's kernel buffers nothing, and is no interpreter that these variables suit.
        env=language.live_env | env if job.live and not is_cell else env,
        files=files,
        inputs=_inputs(job, files, limits),
        stdin=_encoded("stdin", job.stdin, rules.MAX_STDIN_BYTES),
        warm=warm,
        compiling=None
        if job.executable
        else _compiling(language, named, limits, job, compile_timeout_ms or limit_rules.COMPILE_TIMEOUT_MS),
        ends_when_cut=job.ends_when_cut,
        flavour=KERNEL_FLAVOUR if is_cell else _flavour(language, job, entry, files) if warm else "",
        dedicated_container=job.isolation == "container",
        stdin_open=job.stdin_open,
        owner=job.key,
        outputs=_outputs(job),
        network=job.network,
        in_session=bool(job.session),
        packages=packages,
        package_places=places,
        returns=job.returns,
        program=entry if job.executable else "",
    )
    return plan.as_cell() if is_cell else plan


def _check_results(job: Job, catalogue: Catalogue, language: Language) -> None:
    """Check that a job that asks for results can have them. Raises JobInvalid."""
    if not language.has_results:
        having = ", ".join(one.id for one in catalogue if one.has_results)
        message = f"results: runs of {language.id} have none; languages that have results are {having}"
        raise JobInvalid(message, param="results", code="not_supported")
    if job.code is None or job.args or job.stdin_open:
        name = "entrypoint" if job.code is None else "args" if job.args else "stdin_open"
        raise JobInvalid(f"results: not together with {name}; only code is executed as a cell", param="results")


def check_network(network: NetworkAccess | None) -> None:
    """Check the patterns of a run or a session. Raises JobInvalid."""
    for name, texts in () if network is None else (("allow", network.allow), ("deny", network.deny)):
        if len(texts) > MAX_PATTERNS:
            raise JobInvalid(f"network.{name}: more than {MAX_PATTERNS} entries", param=f"network.{name}")
        for number, text in enumerate(texts):
            try:
                parse_pattern(text, is_denied=name == "deny")
            except PatternInvalid as e:
                raise JobInvalid(f"network.{name}.{number}: {e}", param=f"network.{name}.{number}") from e


def check_packages(language: str, texts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the packages of a run or session, sorted, and the place of each in the request. Raises JobInvalid."""
    if not texts:
        return (), ()
    requests = parse_requests(ecosystem_of(language), texts, most_bytes=MAX_BOUNDED_BYTES)
    ordered = sorted((request.text, place) for place, request in enumerate(requests))
    return tuple(text for text, _ in ordered), tuple(place for _, place in ordered)


def place_of(places: tuple[int, ...], package: int | None) -> int | None:
    """Return the place in the request of a package in sorted order; None for none of them."""
    return places[package] if package is not None and 0 <= package < len(places) else None


def _flavour(language: Language, job: Job, entry: str, files: tuple[tuple[str, bytes], ...]) -> str:
    contents = dict(files)
    program = contents.pop(entry)
    # The program of a function is its handler; what is at the entry file calls it.
    program = contents.pop(job.handler, program)
    beside = [*contents, *(item.path for item in job.inputs)]
    suiting = (flavour.name for flavour in language.flavours if flavour.matches(program, job.env, beside))
    return next(suiting, "")


def _compiling(language: Language, entry: str, limits: Limits, job: Job, timeout_ms: int) -> CompilePlan | None:
    """Return the compile phase: with less than it needs only where the job says so."""
    lower = _compile_limits(job)
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
    own = replace(own, **{name: min(value, getattr(own, name)) for name, value in lower.items()})
    return CompilePlan(argv=tuple(compiler.command(entry)), env=compiler.env, limits=own)


def _compile_limits(job: Job) -> dict[str, int]:
    """Return the limits of compiling that a job names. Raises JobInvalid."""
    found: dict[str, int] = {}
    for name, value in job.compile_limits.items():
        param = f"compile_limits.{name[:64]}"
        if name not in limit_rules.COMPILE_LIMITS:
            raise JobInvalid(f"{param}: there is no such limit", param=param, code="unknown_field")
        problem = limit_rules.limit_problem(name, value)
        if problem:
            raise JobInvalid(f"compile_{problem.message}", param=param, code=problem.code)
        found[name] = int(value)
    return found


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
    elif job.entrypoint not in (tuple(item.path for item in job.inputs) if job.executable else found):
        kind = "inputs" if job.executable else "files"
        raise JobInvalid(f"entrypoint: must be the path of one of {kind}", param="entrypoint")
    _check_nesting(found)
    return tuple(found.items())


def _inputs(job: Job, files: tuple[tuple[str, bytes], ...], limits: Limits) -> tuple[JobInput, ...]:
    """Return the files in storage: well-formed, and together no larger than /work, but for a session's."""
    if len(job.files) + len(job.inputs) > rules.MAX_INLINE_FILES:
        raise JobInvalid(f"files: exceed the maximum of {rules.MAX_INLINE_FILES}", param="files")
    found = dict(files)
    sizes = [len(content) for _, content in files]
    for number, item in enumerate(job.inputs):
        problem = path_problem(item.path)
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
    if job.inputs and needed > room and not job.session:
        raise JobInvalid(
            f"files: {needed} bytes exceed the {room} that /work holds with limits.memory_mb {limits.memory_mb}",
            param="files",
            code="files_too_large",
        )
    _check_nesting(found)
    return job.inputs


def _outputs(job: Job) -> str:
    problem = outputs_problem(job.outputs) if job.outputs else None
    if problem is not None:
        raise JobInvalid(f"outputs: {problem}", param="outputs")
    return job.outputs or rules.DEFAULT_OUTPUTS


def _check_nesting(found: dict[str, bytes]) -> None:
    directories = {"outputs", "inputs"}
    for path in found:
        parts = path.split("/")
        directories.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for path in found:
        if path in directories:
            raise JobInvalid(f"files: {path[:100]!r} is both a file and a directory", param="files")
