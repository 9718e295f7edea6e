"""Other names of settings: those that tinirun's server has for the same. Standard library only.

They are accepted in the environment and not in the settings file.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from config.static_keys import is_token

#: The name of our setting by the other name.
OTHER_NAMES: Mapping[str, str] = {
    "RUNNER_API_KEY": "API_KEYS",
    "RUNNER_CLEANUP_INTERVAL": "CLEANUP_INTERVAL_S",
    "RUNNER_HOST": "BIND",
    "RUNNER_LOG_LEVEL": "LOG_LEVEL",
    "RUNNER_PORT": "PORT",
    "RUNNER_REDIS_URL": "RATELIMIT_URL",
}
#: The label of the static key of RUNNER_API_KEY. It has the default rate, or that of other entries with this label.
LABEL = "tinirun"
LOG_LEVELS: Mapping[str, str] = {
    "trace": "DEBUG",
    "debug": "DEBUG",
    "info": "INFO",
    "warn": "WARNING",
    "error": "ERROR",
}


def add_settings_of_other_names(environ: MutableMapping[str, str]) -> dict[str, str]:
    """Add the setting of each other name in `environ`, and return the other name by the setting's.

    An empty variable counts as unset. Raises ValueError for a setting that has another value by its own name, and
    for a value that has no equivalent; the message has no value in it.
    """
    found = {}
    for name in sorted(environ):
        setting = OTHER_NAMES.get(name.upper())
        if setting is None or not environ[name].strip():
            continue
        value = _translate(name.upper(), environ[name].strip(), environ.get(setting) or "")
        if setting != "API_KEYS" and environ.get(setting) not in ("", None, value):
            raise ValueError(f"{name} and {setting} are both set and differ: unset one of the two")
        environ[setting] = value
        found[setting] = name
    return found


def remove_other_names(environ: MutableMapping[str, str]) -> None:
    """Remove all other names from `environ`, once the settings are there."""
    for name in [name for name in environ if name.upper() in OTHER_NAMES]:
        del environ[name]


def _translate(name: str, value: str, own: str) -> str:
    """Return the value of the setting. `own` is what it has by its own name."""
    if name == "RUNNER_API_KEY":
        if not is_token(value):
            raise ValueError("RUNNER_API_KEY: must be 1 to 256 visible ASCII characters without `,` and `:`")
        entries = [entry.strip() for entry in own.split(",") if entry.strip()]
        if value not in {entry.split(":")[0] for entry in entries}:
            entries.append(f"{value}:{LABEL}")
        return ",".join(entries)
    if name == "RUNNER_LOG_LEVEL":
        if value.lower() not in LOG_LEVELS:
            *most, last = LOG_LEVELS
            raise ValueError(f"RUNNER_LOG_LEVEL: must be {', '.join(most)} or {last}")
        return LOG_LEVELS[value.lower()]
    return value
