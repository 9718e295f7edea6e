"""`runyard-server config check` and `config show`: the effective settings, judged or shown, and nothing started."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from config.allowed import choices, expected, kinds
from config.environment import SETTINGS
from config.other_names import OTHER_NAMES
from config.settings import Settings, SettingsError
from config.settings_file import LayeredSettings, apply_file
from config.variables import MASK, MIN_SECRET_LENGTH, Secret, find_other, mask, secret_parts
from ops.settings import folder_of, use_environment_file
from ops.state import StatePlace

EX_INVALID = 2
#: A problem with one of these in it says what to do.
_REMEDY = re.compile(
    r"\b(must be|set (?=[A-Z])|unset|remove|needs|write it as|nearest|lists all|chmod|install)|-> "
)
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


def load(flags: Mapping[str, str], file: Path | None) -> tuple[LayeredSettings, Settings]:
    """Make the effective settings those of this process, and return them. Raises SettingsError."""
    place = StatePlace.of_environment()
    if file is None:
        use_environment_file(place)
    return apply_file(folder_of(place), file=file, flags=flags)


def check(flags: Mapping[str, str], file: Path | None, *, connects: bool) -> int:
    """Print each problem that keeps a service from starting here. Returns 0 if there is none, else 2.

    With `connects` the engine, the database, the bucket and the broker are asked too.
    """
    from ops.preflight import check_start  # loads the engines

    try:
        layered, settings = load(flags, file)
        show_warnings(layered)
        check_start(settings, connects=connects)
    except SettingsError as e:
        show_problems(e)
        return EX_INVALID
    print(f"good (ROLE={settings.role})")
    return 0


def show(flags: Mapping[str, str], file: Path | None) -> int:
    """Print each setting with its value and where that comes from. Returns 0, or 2 if they are not valid."""
    given = {name.upper() for name, value in os.environ.items() if value}
    try:
        layered, settings = load(flags, file)
    except SettingsError as e:
        show_problems(e)
        return EX_INVALID
    show_warnings(layered)
    for name in SETTINGS:
        value = getattr(settings, name.lower())
        source = source_of(name, layered, given)
        print(f"{name:<28}{source:<13}{shown(SETTINGS[name].secret, value)}{layered.origin(name)}")
    for name in sorted(layered.environment):
        facts = find_other(name)
        if layered.environment[name] and facts is not None:
            source = "file" if name in layered.from_file else "environment"
            print(f"{name:<28}{source:<13}{shown(facts.secret, layered.environment[name])}")
    return 0


def source_of(name: str, layered: LayeredSettings, given: set[str]) -> str:
    """Return where the value of a setting comes from: `given` are the variables of the environment before."""
    if name in layered.from_flags:
        return "flag"
    if name in layered.from_file:
        return "file"
    by_other_name = any(setting == name and other in given for other, setting in OTHER_NAMES.items())
    return "environment" if name in given or by_other_name else "default"


def shown(secret: Secret, value: object) -> str:
    """Return a value without its secrets: a URL without its password, nothing of another secret."""
    text = "-" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    if secret is Secret.NONE or value is None:
        return text
    parts = secret_parts(secret, text)
    if secret is Secret.PASSWORD and all(len(part) >= MIN_SECRET_LENGTH for part in parts):
        return mask(text, parts)
    return MASK


def show_warnings(layered: LayeredSettings) -> None:
    """Print the warnings about the settings to stderr."""
    for warning in layered.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def show_problems(error: SettingsError) -> None:
    """Print each problem with its remedy to stderr."""
    for problem in error.problems:
        print(problem, file=sys.stderr)
        remedy = remedy_of(problem)
        if remedy:
            print(f"    -> {remedy}", file=sys.stderr)


def remedy_of(problem: str) -> str:
    """Return what to do about a problem; empty if its own words say so."""
    if _REMEDY.search(problem):
        return ""
    name = next((name for name in _NAME.findall(problem) if name in SETTINGS), None)
    if name is None:
        return "docs/configuration.md describes every setting"
    field = Settings.model_fields[name.lower()]
    if str in kinds(field) and not choices(field):
        return f"{name}: {field.description}"
    return f"{name} must be {expected(field, is_list=False)}. {field.description}"
