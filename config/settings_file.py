"""Load the settings file: `runyard.toml`, `runyard.yaml` or `runyard.yml`, the layer beneath the environment.

Its keys are the names of the settings in lower case, or those of runakode's `config.yaml`
(`config.runakode_keys`). The table `environment` holds variables that are no settings and that libraries read
(`config.variables.OTHERS`), by their own names. `load` is the only reader of the file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from config.environment import SETTINGS
from config.other_names import OTHER_NAMES, add_settings_of_other_names, remove_other_names
from config.settings import Settings, SettingsError, load_settings
from config.settings_document import parse, read_text
from config.settings_entries import ParsedFile, take_entry
from config.shared_parts import sharing_warnings

NAMES = ("runyard.toml", "runyard.yaml", "runyard.yml")


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
    #: The keys of the names in `from_file`, where they are not those names in lower case.
    keys: Mapping[str, str] = field(default_factory=dict)
    #: Names that were given by a flag of the command, which is above the environment.
    from_flags: frozenset[str] = frozenset()

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
        return f" ({self.key(name)} in {self.file})" if name in self.from_file else ""

    def key(self, name: str) -> str:
        """Return the key of a name in the file."""
        return self.keys.get(name, name.lower())


def find(folder: Path) -> Path | None:
    """Return the settings file of a folder; None if it has none. Raises SettingsError if it has several."""
    found = [path for name in NAMES if os.path.lexists(path := folder / name)]
    if len(found) > 1:
        raise SettingsError(f"{' and '.join(map(str, found))}: only one settings file may exist; remove the others")
    return found[0] if found else None


def load(
    environ: Mapping[str, str],
    folder: Path,
    *,
    file: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> LayeredSettings:
    """Return an environment with a settings file beneath it: `file`, or that of `folder` if there is one.

    `flags` are settings above the environment. An empty variable counts as unset. Raises SettingsError with a line
    for each problem.
    """
    own = _own(environ)
    flags = flags or {}
    for name in [name for name in own if OTHER_NAMES.get(name.upper(), name) in flags]:
        del own[name]
    try:
        other_names = add_settings_of_other_names(own)
    except ValueError as e:
        raise SettingsError(str(e)) from e
    remove_other_names(own)
    own |= flags
    path = file or find(folder)
    if path is None:
        return LayeredSettings(own, other_names=other_names, from_flags=frozenset(flags))
    try:
        text, warnings = read_text(path)
        document = parse(path, text)
    except ValueError as e:
        raise SettingsError(str(e)) from e
    parsed = ParsedFile(path)
    for key, value in document.items():
        take_entry(parsed, key, value)
    if file is None:
        _check_state_dir(parsed, own.get("STATE_DIR"))
    if parsed.problems:
        raise SettingsError("\n".join(parsed.problems), parsed.problems)
    used = {name: value for name, value in parsed.variables.items() if not own.get(name)}
    mode = stat.S_IMODE(path.stat().st_mode)
    if parsed.has_secret and mode & 0o044:
        warnings.append(f"{path} holds secrets and other accounts can read it: chmod 600 {path}")
    return LayeredSettings(
        own | used,
        path,
        frozenset(used),
        (*warnings, *parsed.warnings),
        other_names,
        {name: parsed.keys[name] for name in used},
        frozenset(flags),
    )


def apply_file(
    folder: Path,
    runyard_env: str = "production",
    *,
    file: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> tuple[LayeredSettings, Settings]:
    """Put a settings file beneath this process's environment as `load` does, and return both with the settings.

    `runyard_env` is the value of RUNYARD_ENV where neither gives one. Raises SettingsError.
    """
    layered = load(os.environ, folder, file=file, flags=flags)
    layered.environment["RUNYARD_ENV"] = layered.environment.get("RUNYARD_ENV") or runyard_env
    layered.apply()
    settings = load_settings(layered.origin)
    return replace(layered, warnings=(*layered.warnings, *sharing_warnings(settings))), settings


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the settings' names in upper case. Raises SettingsError for one given twice."""
    own: dict[str, str] = {}
    for name, value in environ.items():
        upper = name.upper() if name.upper() in SETTINGS else name
        if own.get(upper, value) != value:
            raise SettingsError(f"{upper} is in the environment twice, in different case: unset one of the two")
        own[upper] = value
    return own


def _check_state_dir(parsed: ParsedFile, in_force: str | None) -> None:
    """Refuse a state directory other than the current one, which determines the place of the file."""
    given = parsed.variables.get("STATE_DIR")
    if given is not None and Path(given) != Path(in_force or Settings.model_fields["state_dir"].default):
        parsed.refuse("state_dir", "the file is found by the state directory: set STATE_DIR in the environment")
