"""The input of `runyard exec`: a program from the command line, a file, a folder or stdin, and its options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runyard.text import shown

if TYPE_CHECKING:
    from runyard._calls import InlineFile

#: The API's limit, checked here before anything is read.
MAX_INLINE_FILES = 64
MAX_BODY_BYTES = 16 * 1024 * 1024
#: Languages by the ending of a program's file, without --runtime.
ENDINGS = {
    ".py": "python",
    ".js": "node",
    ".mjs": "node",
    ".cjs": "node",
    ".ts": "typescript",
    ".rb": "ruby",
    ".php": "php",
    ".go": "go",
    ".rs": "rust",
    ".sh": "bash",
}
LANGUAGES = sorted({*ENDINGS.values(), "deno", "bun"})
_SKIPPED = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True)
class Program:
    """The program to run: `code`, or one of `files` as `entrypoint`."""

    language: str
    code: str | None = None
    entrypoint: str | None = None
    files: list[InlineFile] = field(default_factory=list)


def program(source: str | None, code: str | None, runtime: str | None, entry: str | None) -> Program:
    """Read the program that the arguments name. Raises click.UsageError, OSError."""
    if code is not None:
        if source is not None or entry is not None:
            raise click.UsageError("use either --code or SOURCE, not both (arguments of the program come after --)")
        return Program(_language(runtime, None), code)
    if source is None:
        raise click.UsageError("missing SOURCE: code, a file, a folder with --entry, or - for stdin")
    if entry is not None:
        return _folder(Path(source), entry, runtime)
    if source == "-":
        return Program(_language(runtime, None), _text(sys.stdin.buffer.read(), "stdin"))
    if _is_path(source):
        return _file(Path(source), runtime)
    return Program(_language(runtime, None), source)


def input_text(given: str | None) -> str | None:
    """Read the program's stdin from a file, or from our stdin for `-`. Raises click.UsageError, OSError."""
    if given is None:
        return None
    if given == "-":
        return _text(sys.stdin.buffer.read(), "--stdin")
    return _text(Path(given).read_bytes(), "--stdin")


def environment(pairs: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """Read `NAME=VALUE` pairs; a NAME alone takes its value from this environment. Raises click.UsageError."""
    found = {}
    for name, given in pairs:
        value = os.environ.get(name) if given is None else given
        if value is None:
            raise click.UsageError(f"--env {name}: not set in this environment; use {name}=VALUE")
        found[name] = value
    return found


def attachment(given: str) -> tuple[Path, str]:
    """Split a `--file` value into a local path and one under /work/inputs: `FILE=PATH`, unless it is a file."""
    if os.path.isfile(given):
        return Path(given), Path(given).name
    path, equals, target = given.rpartition("=")
    if equals and path and target and os.path.isfile(path):
        return Path(path), target
    raise click.UsageError(f"--file {given}: no such file")


def limit(name: str, value: str | None) -> int | float:
    """Parse the value of a `--limit`. Raises click.UsageError."""
    try:
        text = value or ""
        return float(text) if "." in text else int(text)
    except ValueError as e:
        raise click.UsageError(f"--limit {name}: must be NAME=NUMBER") from e


def _is_path(source: str) -> bool:
    """Return whether `source` is a path rather than code: the file exists, or the text can only be a path."""
    if "\n" in source or "\0" in source or len(source) > 4096:
        return False
    if os.path.exists(source):
        return True
    looks = source.startswith(("./", "../", "/", "~/")) or Path(source).suffix in ENDINGS
    return looks and not any(char.isspace() or char in "()\"';" for char in source)


def _language(runtime: str | None, path: Path | None) -> str:
    found = runtime or (ENDINGS.get(path.suffix.lower()) if path is not None else None)
    if found is None:
        raise click.UsageError("cannot detect the language; use --runtime, for example --runtime python")
    return found


def _file(path: Path, runtime: str | None) -> Program:
    if path.is_dir():
        raise click.UsageError(
            f"{path}: is a folder; which file to start? Use --entry, for example --entry main.py"
        )
    language = _language(runtime, path)
    content = path.read_bytes()
    if len(content) > MAX_BODY_BYTES:
        raise click.UsageError(f"{path}: {len(content)} bytes, the maximum of a request is {MAX_BODY_BYTES}")
    return Program(language, entrypoint=path.name, files=[{"path": path.name, "content": content}])


def _folder(top: Path, entry: str, runtime: str | None) -> Program:
    """Read a folder as a program that begins in one of its files."""
    if not top.is_dir():
        raise click.UsageError(f"{top}: --entry requires a folder, and this is not a folder")
    entry = Path(entry).as_posix()
    language = _language(runtime, Path(entry))
    files = read_folder(top)
    if all(file["path"] != entry for file in files):
        raise click.UsageError(f"--entry {entry}: no such file in {top}")
    return Program(language, entrypoint=entry, files=files)


def read_folder(top: Path) -> list[InlineFile]:
    """Read all regular files beneath `top`, without hidden files, caches and links. Raises click.UsageError."""
    files: list[InlineFile] = []
    total = 0
    for path in _walk(top):
        content = path.read_bytes()
        total += len(content)
        files.append({"path": path.relative_to(top).as_posix(), "content": content})
        if len(files) > MAX_INLINE_FILES or total > MAX_BODY_BYTES:
            raise click.UsageError(
                f"{top}: has more than {MAX_INLINE_FILES} files or {MAX_BODY_BYTES} bytes; upload data with --file"
            )
    return files


def _walk(top: Path) -> list[Path]:
    found = []
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _SKIPPED)
        for name in sorted(files):
            path = Path(folder) / name
            if not name.startswith(".") and path.suffix != ".pyc" and not path.is_symlink() and path.is_file():
                found.append(path)
    return found


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{shown(what)}: not UTF-8 at byte {e.start}; pass binary data with --file") from e
