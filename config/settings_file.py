"""Load the settings file: `runyard.toml`, `runyard.yaml` or `runyard.yml`, the layer beneath the environment.

Its keys are the names of the settings in lower case. The table `environment` holds variables that are no settings
and that libraries read (`config.variables.OTHERS`), by their own names. `load` is the only reader of the file.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from config.allowed import choices, expected, kinds, problem_of_number
from config.environment import SETTINGS
from config.other_names import OTHER_NAMES, add_settings_of_other_names, remove_other_names
from config.settings import IMAGE_PREFIX, Settings, SettingsError, load_settings
from config.variables import Secret, Variable, find_other

NAMES = ("runyard.toml", "runyard.yaml", "runyard.yml")
MAX_BYTES = 256 * 1024
#: The table of variables that are no settings.
OTHERS_TABLE = "environment"
TYPE_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class LayeredSettings:
    """The variables of an environment with those of a settings file beneath them."""

    #: Settings have their names in upper case; other variables keep theirs.
    environment: dict[str, str]
    file: Path | None = None
    #: Names in `environment` whose values come from the file.
    from_file: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    #: The other names (`config.other_names`) of settings that were given by one.
    other_names: Mapping[str, str] = field(default_factory=dict)

    def apply(self) -> None:
        """Make them the environment of this process."""
        for name in list(os.environ):
            if name.upper() in SETTINGS or name not in self.environment:
                del os.environ[name]
        os.environ.update(self.environment)

    def origin(self, name: str) -> str:
        """Name the key and the file of a value from the file, or its other name; empty for any other value."""
        if name in self.other_names:
            return f" (given as {self.other_names[name]})"
        return f" ({name.lower()} in {self.file})" if name in self.from_file else ""


@dataclass(slots=True)
class _Parsed:
    """The variables of one file, and its problems."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    has_secret: bool = False

    def refuse(self, key: object, problem: str) -> None:
        self.problems.append(f"{_shown(key)} in {self.path}: {problem}")

    def add(self, name: str, value: str, facts: Variable) -> None:
        self.variables[name] = value
        self.has_secret = self.has_secret or facts.secret is not Secret.NONE


def find(folder: Path) -> Path | None:
    """Return the settings file of a folder; None if it has none. Raises SettingsError if it has several."""
    found = [path for name in NAMES if os.path.lexists(path := folder / name)]
    if len(found) > 1:
        raise SettingsError(f"{' and '.join(map(str, found))}: only one settings file may exist; remove the others")
    return found[0] if found else None


def load(environ: Mapping[str, str], folder: Path) -> LayeredSettings:
    """Return an environment with the settings file of `folder`, if there is one, beneath it.

    An empty variable counts as unset. Raises SettingsError with a line for each problem.
    """
    own = _own(environ)
    try:
        other_names = add_settings_of_other_names(own)
    except ValueError as e:
        raise SettingsError(str(e)) from e
    remove_other_names(own)
    path = find(folder)
    if path is None:
        return LayeredSettings(own, other_names=other_names)
    text, warnings = _read(path)
    parsed = _Parsed(path)
    for key, value in _parse(path, text).items():
        _take(parsed, key, value)
    _check_state_dir(parsed, own.get("STATE_DIR"))
    if parsed.problems:
        raise SettingsError("\n".join(parsed.problems))
    used = {name: value for name, value in parsed.variables.items() if not own.get(name)}
    mode = stat.S_IMODE(path.stat().st_mode)
    if parsed.has_secret and mode & 0o044:
        warnings.append(f"{path} holds secrets and other accounts can read it: chmod 600 {path}")
    return LayeredSettings(own | used, path, frozenset(used), tuple(warnings), other_names)


def apply_file(folder: Path, runyard_env: str = "production") -> tuple[LayeredSettings, Settings]:
    """Put the settings file of `folder` beneath this process's environment, and return both with the settings.

    `runyard_env` is the value of RUNYARD_ENV where neither gives one. Raises SettingsError.
    """
    layered = load(os.environ, folder)
    layered.environment["RUNYARD_ENV"] = layered.environment.get("RUNYARD_ENV") or runyard_env
    layered.apply()
    return layered, load_settings(layered.origin)


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the settings' names in upper case. Raises SettingsError for one given twice."""
    own: dict[str, str] = {}
    for name, value in environ.items():
        upper = name.upper() if name.upper() in SETTINGS else name
        if own.get(upper, value) != value:
            raise SettingsError(f"{upper} is in the environment twice, in different case: unset one of the two")
        own[upper] = value
    return own


def _read(path: Path) -> tuple[str, list[str]]:
    """Return the text of a regular file, and a warning if other accounts may change it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError(f"{path}: is not a regular file")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SettingsError(f"{path}: is larger than {MAX_BYTES} bytes")
        text = data.decode("utf-8")
    except OSError as e:
        raise SettingsError(f"{path}: cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise SettingsError(f"{path}: is not UTF-8 (byte {e.start})") from e
    writable = bool(found.st_mode & 0o022)
    return text, [f"{path} can be changed by other accounts: chmod go-w {path}"] if writable else []


def _parse(path: Path, text: str) -> dict[Any, Any]:
    kind = "TOML" if path.suffix == ".toml" else "YAML"
    try:
        found = tomllib.loads(text) if kind == "TOML" else _parse_yaml(text)
    except RecursionError as e:
        raise SettingsError(f"{path}: is nested too deeply") from e
    except ValueError as e:
        raise SettingsError(f"{path}: is not valid {kind}: {e}") from e
    if found is None:  # an empty YAML file
        return {}
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: must hold settings as `name: value`, one a line")
    return found


def _parse_yaml(text: str) -> Any:  # noqa: ANN401  # the document may have any type
    import yaml  # only a service with a file in YAML pays for it

    class Loader(yaml.SafeLoader):
        """Refuses a key that is given twice, as TOML does."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # as PyYAML has it
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{_shown(twice)} is given twice")
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


def _take(parsed: _Parsed, key: object, value: object) -> None:
    """Take one entry of the top level."""
    if key == OTHERS_TABLE:
        _take_others(parsed, value)
    elif isinstance(key, str) and key in Settings.model_fields:
        _take_setting(parsed, key, value)
    elif isinstance(key, str) and key.startswith(IMAGE_PREFIX.lower()):
        _take_text(parsed, key, key.upper(), value)
    elif isinstance(key, str) and key.upper() in OTHER_NAMES:
        parsed.refuse(key, f"is a name for the environment alone: write it as {OTHER_NAMES[key.upper()].lower()}")
    else:
        parsed.refuse(key, f"unknown setting{_nearest(key, [*Settings.model_fields, OTHERS_TABLE])}")


def _take_setting(parsed: _Parsed, key: str, value: object) -> None:
    definition, facts = Settings.model_fields[key], SETTINGS[key.upper()]
    wanted = expected(definition, is_list=facts.is_list)
    if value is None or value == "":
        return  # as an empty variable
    if facts.is_list and isinstance(value, list):
        _take_list(parsed, key, value, facts, wanted)
        return
    if not _is_of_type(value, kinds(definition)):
        parsed.refuse(key, f"must be {wanted}, not {_type_words(value)}")
    elif isinstance(value, str):
        _take_word(parsed, key, value, definition, facts)
    elif isinstance(value, bool):
        parsed.add(key.upper(), str(int(value)), facts)
    elif (problem := problem_of_number(definition, value)) is not None:  # type: ignore[arg-type]  # of that type
        parsed.refuse(key, f"must be {wanted}, not {problem}")
    else:
        parsed.add(key.upper(), str(value), facts)


def _take_word(parsed: _Parsed, key: str, value: str, definition: FieldInfo, facts: Variable) -> None:
    known = choices(definition)
    if known and value not in known:
        near = "".join(f"; nearest: {word}" for word in difflib.get_close_matches(value, known, n=1))
        parsed.refuse(key, f"must be {expected(definition, is_list=False)}{near}")
    elif not value.isprintable():
        parsed.refuse(key, "must be one line of printable characters")
    else:
        parsed.add(key.upper(), value, facts)


def _take_list(parsed: _Parsed, key: str, values: list[object], facts: Variable, wanted: str) -> None:
    entries = []
    for number, entry in enumerate(values, start=1):
        if not isinstance(entry, str):
            parsed.refuse(key, f"must be {wanted}; entry {number} is {_type_words(entry)}")
        elif "," in entry or not entry.strip() or not entry.isprintable():
            parsed.refuse(key, f"entry {number} must be one line of printable characters without a comma")
        else:
            entries.append(entry)
    if entries:
        parsed.add(key.upper(), ",".join(entries), facts)


def _take_others(parsed: _Parsed, table: object) -> None:
    if not isinstance(table, dict):
        parsed.refuse(OTHERS_TABLE, f"must be a table of variables, not {_type_words(table)}")
        return
    for name, value in table.items():
        if isinstance(name, str) and name.upper() in SETTINGS:
            parsed.refuse(name, f"is a setting: write it as {name.lower()}, outside of the table {OTHERS_TABLE}")
        elif isinstance(name, str) and name.upper() in OTHER_NAMES:
            setting = OTHER_NAMES[name.upper()].lower()
            parsed.refuse(name, f"is a setting: write it as {setting}, outside of the table {OTHERS_TABLE}")
        elif not isinstance(name, str) or find_other(name) is None or "=" in name or not name.isprintable():
            parsed.refuse(name, "no process reads a variable of this name (docs/configuration.md lists them)")
        else:
            _take_text(parsed, name, name, value)


def _take_text(parsed: _Parsed, key: str, name: str, value: object) -> None:
    facts = find_other(name)
    if not isinstance(value, str):
        parsed.refuse(key, f"must be text in quotes, not {_type_words(value)}")
    elif not value.isprintable() or facts is None:
        parsed.refuse(key, "must be one line of printable characters")
    elif value:
        parsed.add(name, value, facts)


def _check_state_dir(parsed: _Parsed, in_force: str | None) -> None:
    """Refuse a state directory other than the current one, which determines the place of the file."""
    given = parsed.variables.get("STATE_DIR")
    if given is not None and Path(given) != Path(in_force or Settings.model_fields["state_dir"].default):
        parsed.refuse("state_dir", "the file is found by the state directory: set STATE_DIR in the environment")


def _is_of_type(value: object, allowed: tuple[Any, ...]) -> bool:
    if isinstance(value, bool):
        return bool in allowed
    if isinstance(value, int):
        return int in allowed or float in allowed
    if isinstance(value, float):
        return float in allowed
    return isinstance(value, str) and any(kind in allowed for kind in (str, Path))


def _type_words(value: object) -> str:
    return TYPE_WORDS.get(type(value), "nothing" if value is None else "a date or time")


def _shown(key: object) -> str:
    text = key if isinstance(key, str) else str(key) if isinstance(key, int) and abs(key) < 10**9 else "a key"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 64 else f"{text[:61]}..."


def _nearest(key: object, known: list[str]) -> str:
    """Name the known setting nearest to a key, or the page that lists all."""
    found = difflib.get_close_matches(str(key)[:128].lower(), known, n=1, cutoff=0.5)
    return f"; nearest known: {found[0]}" if found else "; docs/configuration.md lists all"
