"""Derive from the facts of each variable the environment of a process and the secrets that its log must mask."""

from __future__ import annotations

from collections.abc import Mapping

from config.settings import Settings
from config.variables import Reader, Secret, Variable, find_other, other_secrets, secret_parts


def _facts_of_settings() -> dict[str, Variable]:
    found = {}
    for name, field in Settings.model_fields.items():
        # A setting without facts, or with two of them, ends the import.
        (found[name.upper()],) = (entry for entry in field.metadata if isinstance(entry, Variable))
    return found


#: The facts of every setting, by its name in upper case.
SETTINGS: Mapping[str, Variable] = _facts_of_settings()


def is_secret(name: str) -> bool:
    """Return whether the setting of this name holds a secret."""
    return SETTINGS[name.upper()].secret is not Secret.NONE


def environment_of(reader: Reader, settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that this process reads; settings get their names in upper case."""
    found = {}
    for name, value in environ.items():
        if name.upper() in SETTINGS:
            if reader in SETTINGS[name.upper()].readers:
                found[name.upper()] = value
            continue
        facts = find_other(name)
        if facts is None or reader not in facts.readers:
            continue
        if facts.needs is None or getattr(settings, facts.needs) is not None:
            found[name] = value
    return found


def without_settings_of_others(reader: Reader, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the settings that this process does not read; other variables stay."""
    return {
        name: value
        for name, value in environ.items()
        if name.upper() not in SETTINGS or reader in SETTINGS[name.upper()].readers
    }


def secrets_in(environ: Mapping[str, str]) -> frozenset[str]:
    """Return every secret in an environment, in the forms in which it can get into a text."""
    found = other_secrets({name: value for name, value in environ.items() if name.upper() not in SETTINGS})
    given = ((SETTINGS.get(name.upper()), value) for name, value in environ.items())
    return found.union(*(secret_parts(facts.secret, value) for facts, value in given if facts is not None))
