"""The languages this service knows: one folder under `runners/` each, described by its `runner.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

RUNNERS = Path(__file__).resolve().parent.parent / "runners"
AGENT_ARGV = ("python3", "-I", "-S", "/opt/runyard/agent/main.py")

#: The directory for a compiler's output: a file system of the sandbox that is read-only once the program runs.
BUILD_DIRECTORY = "/opt/build"
PROGRAM = f"{BUILD_DIRECTORY}/main"

WarmMode = Literal["fork", "hold", "none"]


@dataclass(frozen=True, slots=True)
class Compiler:
    """The compiler of a language: its command, its variables, and the memory it may use."""

    argv: tuple[str, ...]
    env: dict[str, str]
    memory_mb: int

    def command(self, entry: str) -> list[str]:
        """Return the command that builds PROGRAM from an entry file."""
        return [_filled(part, entry) for part in self.argv]


#: The name of the template of the sandboxes of sessions.
KERNEL_FLAVOUR = "kernel"
#: An import this far into a program is not looked for.
LOOK_BYTES = 64 * 1024
#: Files that Python may import in place of a module of that name.
IMPORTABLE = (".py", ".pyc", ".so")


@dataclass(frozen=True, slots=True)
class TemplateVariant:
    """A template with `modules` imported, for programs that import one of `when`.

    `env` begins the names of variables that those read while they are imported.
    """

    name: str
    modules: tuple[str, ...]
    wanted: re.Pattern[bytes]
    env: tuple[str, ...]

    def matches(self, entry: bytes, env: Iterable[str], files: Iterable[str]) -> bool:
        """Return whether a program must run in this variant, from its text; `files` are the paths of its further
        files.
        """
        return (
            self.wanted.search(entry[:LOOK_BYTES]) is not None
            and not any(name.startswith(self.env) for name in env)
            and not any(_may_be_imported(path) for path in files)
        )


def _may_be_imported(path: str) -> bool:
    """Return whether a file beneath /work could replace a module that a template has already imported."""
    first, slash, _ = path.partition("/")
    return first != "inputs" if slash else first.endswith(IMPORTABLE)


@dataclass(frozen=True, slots=True, eq=False)  # each is itself: compared and hashed by identity
class Language:
    """A language as `runner.toml` describes it. `slot_mb` is the measured memory of one warm sandbox.

    `live_env` is added to the program's environment if a client follows its output.
    """

    id: str
    aliases: tuple[str, ...]
    entry_file: str
    argv: tuple[str, ...]
    env: dict[str, str]
    live_env: dict[str, str]
    pids_default: int
    boot_env: tuple[str, ...]
    boot_files: frozenset[str]
    boot_args: bool
    example: str
    warm_mode: WarmMode
    warm_argv: tuple[str, ...]
    slot_mb: int
    compiler: Compiler | None = None
    flavours: tuple[TemplateVariant, ...] = ()
    #: The command of its kernel, which keeps variables between runs (docs/kernels.md); empty if it has none.
    kernel_argv: tuple[str, ...] = ()
    #: True if the code of a run in a session is a cell of a context unless the run says otherwise.
    keeps_variables: bool = False
    #: True if its cells have results: values, figures, tables.
    has_results: bool = False
    #: True if the kernel names the outputs that a cell has changed.
    names_outputs: bool = False
    #: True if the kernel works in the images of other languages too.
    kernels_everywhere: bool = False

    def command(self, entry: str) -> list[str]:
        """Return the command that starts the interpreter for an entry file."""
        return [_filled(part, entry) for part in self.argv]

    def agent_command(self, *, hold: bool) -> list[str]:
        """Return the command of a sandbox's PID 1; without `hold` no interpreter is started ahead."""
        if not hold or self.warm_mode == "none":
            return [*AGENT_ARGV, "none"]
        if self.warm_mode == "fork":
            return list(self.warm_argv)
        return [*AGENT_ARGV, "hold", *self.warm_argv]

    def affects_startup(self, env: Iterable[str], files: Iterable[str], args: Sequence[str]) -> bool:
        """Return whether the interpreter or loader reads one of these at its start, so that a waiting one is too
        late.
        """
        return (
            any(name.startswith(self.boot_env) for name in env)
            or not self.boot_files.isdisjoint(files)
            or (self.boot_args and bool(args))
        )


def kernels_of(language: Language, known: Iterable[Language]) -> set[str]:
    """Return the languages of the contexts that a session of that language may have."""
    return {one.id for one in known if one.kernel_argv and (one is language or one.kernels_everywhere)}


class Catalogue:
    """Every known language, by id and by alias."""

    def __init__(self, languages: list[Language]) -> None:
        self._by_id = {language.id: language for language in languages}
        self._by_name = dict(self._by_id)
        for language in languages:
            for alias in language.aliases:
                self._by_name.setdefault(alias, language)

    def __iter__(self) -> Iterator[Language]:
        return iter(self._by_id.values())

    def get(self, name: str) -> Language | None:
        """Return the language with that id or alias."""
        return self._by_name.get(name)

    @property
    def ids(self) -> list[str]:
        return list(self._by_id)

    @classmethod
    def load(cls, folder: Path = RUNNERS, only: str | None = None) -> Catalogue:
        """Read every `runner.toml` beneath `folder`; `only` is a comma-separated choice of ids."""
        wanted = {name.strip() for name in only.split(",")} if only else None
        found = [_read(path) for path in sorted(folder.glob("*/runner.toml"))]
        unknown = (wanted or set()) - {language.id for language in found}
        if unknown:
            raise ValueError(f"LANGUAGES: no runner for {', '.join(sorted(unknown))}")
        return cls([language for language in found if wanted is None or language.id in wanted])


def _filled(part: str, entry: str) -> str:
    return part.replace("{entry}", entry).replace("{program}", PROGRAM)


def _read(path: Path) -> Language:
    data = tomllib.loads(path.read_text())
    warm = data.get("warm", {})
    return Language(
        id=data["id"],
        aliases=tuple(data.get("aliases", ())),
        entry_file=data["entry_file"],
        argv=tuple(data["argv"]),
        env=dict(data.get("env", {})),
        live_env=dict(data.get("live_env", {})),
        pids_default=data.get("pids_default", 64),
        boot_env=tuple(data.get("boot_env", ())),
        boot_files=frozenset(data.get("boot_files", ())),
        boot_args=data.get("boot_args", False),
        example=data.get("example", ""),
        warm_mode=warm.get("mode", "none"),
        warm_argv=tuple(warm.get("argv", ())),
        slot_mb=warm.get("slot_mb", 12),
        compiler=_read_compiler(data.get("compile")),
        kernel_argv=tuple(data.get("kernel", {}).get("argv", ())),
        keeps_variables="kernel" in data and data["kernel"].get("default", True),
        has_results=data.get("kernel", {}).get("results", False),
        names_outputs=data.get("kernel", {}).get("names_outputs", False),
        kernels_everywhere=data.get("kernel", {}).get("everywhere", False),
        flavours=(
            *(_read_flavour(name, table) for name, table in data.get("template", {}).items()),
            *_kernel_flavour(data.get("kernel", {})),
        ),
    )


def _kernel_flavour(kernel: dict[str, Any]) -> tuple[TemplateVariant, ...]:
    """Return the template of the sandboxes of sessions, which no program alone asks for."""
    modules = tuple(kernel.get("modules", ()))
    return (TemplateVariant(KERNEL_FLAVOUR, modules, re.compile(rb"(?!)"), ()),) if modules else ()


def _read_flavour(name: str, data: dict[str, Any]) -> TemplateVariant:
    names = "|".join(re.escape(module) for module in data["when"])
    wanted = re.compile(rf"^[ \t]*(?:import|from)\b[^\n]*\b(?:{names})\b".encode(), re.MULTILINE)
    return TemplateVariant(name, tuple(data["modules"]), wanted, tuple(data.get("env", ())))


def _read_compiler(data: dict[str, Any] | None) -> Compiler | None:
    if data is None:
        return None
    return Compiler(argv=tuple(data["argv"]), env=dict(data.get("env", {})), memory_mb=data["memory_mb"])
