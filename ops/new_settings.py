"""`python -m ops.new_settings PATH`: write the settings file of a new installation, for root alone.

It holds the settings of this process's environment, in the types that the file's loader expects.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from config.allowed import kinds
from config.environment import SETTINGS
from config.settings import IMAGE_PREFIX, Settings, load_settings
from config.settings_entries import OTHERS_TABLE
from config.variables import find_other

HEAD = """# Settings of the service, by their names in lower case: docs/settings-file.md and docs/configuration.md.
# After a change: make install
"""


def toml(settings: Settings, environ: Mapping[str, str]) -> str:
    """Return the settings that are set, and the variables that only api and worker read, as TOML."""
    lines, others = [], []
    for name, value in sorted(environ.items()):
        facts = find_other(name)
        if not value or name.upper() == "STATE_DIR":
            continue
        if name.upper() in SETTINGS:
            lines.append(f"{name.lower()} = {_value(settings, name.lower(), value)}\n")
        elif name.startswith(IMAGE_PREFIX):
            lines.append(f"{name.lower()} = {_text(value)}\n")
        elif facts is not None and "images" not in facts.readers:
            others.append(f"{name} = {_text(value)}\n")
    table = [f"\n[{OTHERS_TABLE}]\n", *others] if others else []
    return HEAD + "".join(lines + table)


def _value(settings: Settings, key: str, text: str) -> str:
    if {bool, int, float} & set(kinds(Settings.model_fields[key])):
        return json.dumps(getattr(settings, key))
    return _text(text)


def _text(value: str) -> str:
    """Return a basic string of TOML: JSON's form, which escapes all that TOML wants escaped but DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write(path: Path) -> None:
    """Write the file. Raises FileExistsError if there is one, and SettingsError for settings that are not valid."""
    text = toml(load_settings(), os.environ)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
