"""Read a settings file as a document: TOML or YAML text, bounded, with its keys and values not looked at yet."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

MAX_BYTES = 256 * 1024
TYPE_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


def read_text(path: Path) -> tuple[str, list[str]]:
    """Return the text of a regular file, and a warning if other accounts may change it. Raises ValueError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{path}: is not a regular file")
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise ValueError(f"{path}: cannot be read: {e.strerror}") from e
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: is not UTF-8 (byte {e.start})") from e
    writable = bool(found.st_mode & 0o022)
    return text, [f"{path} can be changed by other accounts: chmod go-w {path}"] if writable else []


def parse(path: Path, text: str) -> dict[Any, Any]:
    """Return the top level of a document; the suffix of the path decides about the format. Raises ValueError."""
    kind = "TOML" if path.suffix == ".toml" else "YAML"
    try:
        found = tomllib.loads(text) if kind == "TOML" else _parse_yaml(text)
    except RecursionError as e:
        raise ValueError(f"{path}: is nested too deeply") from e
    except ValueError as e:
        raise ValueError(f"{path}: is not valid {kind}: {e}") from e
    if found is None:  # an empty YAML file
        return {}
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004  # of a document, like the others
            f"{path}: must hold settings as `name: value`, one a line"
        )
    return found


def _parse_yaml(text: str) -> Any:  # noqa: ANN401  # the document may have any type
    import yaml  # only a service with a file in YAML pays for it

    class Loader(yaml.SafeLoader):
        """Refuses a key that is given twice, as TOML does."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # as PyYAML has it
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{shown_key(twice)} is given twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as e:
        # Its own text quotes the line, which may hold a secret.
        mark = e.problem_mark or e.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise ValueError(f"{e.problem or e.context}{where}") from e
    except yaml.YAMLError as e:
        raise ValueError("it holds characters that are not allowed") from e


def type_words(value: object) -> str:
    """Describe the type of a value for a message that does not tell the value."""
    return TYPE_WORDS.get(type(value), "nothing" if value is None else "a date or time")


def shown_key(key: object) -> str:
    """Return a key, which may be of any type and length, for a message."""
    text = key if isinstance(key, str) else str(key) if isinstance(key, int) and abs(key) < 10**9 else "a key"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 64 else f"{text[:61]}..."
