"""Take the entries of a settings file: each key's setting, its value checked, its problem in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from config.allowed import bounds_of, choices, expected, kinds, problem_of_number
from config.environment import SETTINGS
from config.other_names import OTHER_NAMES
from config.runakode_keys import BROKER_TABLE, RUNAKODE_KEYS, UNUSED_KEY, UNUSED_REASON
from config.settings import IMAGE_PREFIX, Settings
from config.settings_document import shown_key, type_words
from config.variables import Secret, Variable, find_other

#: The table of variables that are no settings.
OTHERS_TABLE = "environment"


@dataclass(slots=True)
class ParsedFile:
    """The variables of one file, and its problems."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    has_secret: bool = False

    def refuse(self, key: object, problem: str) -> None:
        self.problems.append(f"{shown_key(key)} in {self.path}: {problem}")

    def add(self, key: str, name: str, value: str, facts: Variable) -> None:
        if name in self.keys:
            self.refuse(key, f"is the same setting as {self.keys[name]}: remove one of the two")
            return
        self.variables[name], self.keys[name] = value, key
        self.has_secret = self.has_secret or facts.secret is not Secret.NONE


@dataclass(frozen=True, slots=True)
class _Entry:
    """A key of the file, and the setting that it gives."""

    key: str
    setting: str

    @property
    def name(self) -> str:
        return self.setting.upper()

    @property
    def definition(self) -> FieldInfo:
        return Settings.model_fields[self.setting]

    @property
    def facts(self) -> Variable:
        return SETTINGS[self.name]

    @property
    def wanted(self) -> str:
        return expected(self.definition, is_list=self.facts.is_list)


def take_entry(parsed: ParsedFile, key: object, value: object) -> None:
    """Take one entry of the top level."""
    if key == OTHERS_TABLE:
        _take_others(parsed, value)
    elif key == BROKER_TABLE:
        _take_broker(parsed, value)
    elif key == UNUSED_KEY:
        parsed.warnings.append(f"{UNUSED_KEY} in {parsed.path} {UNUSED_REASON}")
    elif isinstance(key, str) and key in Settings.model_fields:
        _take_setting(parsed, _Entry(key, key), value)
    elif isinstance(key, str) and key in RUNAKODE_KEYS:
        _take_runakode(parsed, key, value)
    elif isinstance(key, str) and key.startswith(IMAGE_PREFIX.lower()):
        _take_text(parsed, key, key.upper(), value)
    elif isinstance(key, str) and key.upper() in OTHER_NAMES:
        parsed.refuse(key, f"is a name for the environment alone: write it as {OTHER_NAMES[key.upper()].lower()}")
    else:
        parsed.refuse(key, f"unknown setting{_nearest(key)}")


def _take_broker(parsed: ParsedFile, table: object) -> None:
    """Take runakode's table of the broker."""
    if table is None:
        return
    if not isinstance(table, dict):
        parsed.refuse(BROKER_TABLE, f"must be a table with url and queue, not {type_words(table)}")
        return
    for key, value in table.items():
        whole = f"{BROKER_TABLE}.{shown_key(key)}"
        if whole in RUNAKODE_KEYS:
            _take_runakode(parsed, whole, value)
        else:
            parsed.refuse(whole, f"unknown setting{_nearest(whole)}")


def _take_runakode(parsed: ParsedFile, key: str, value: object) -> None:
    """Take a value by runakode's key, in the unit of runakode."""
    facts = RUNAKODE_KEYS[key]
    entry = _Entry(key, facts.setting)
    if facts.convert is None or value is None or value == "":
        _take_setting(parsed, entry, value)
        return
    low, high = bounds_of(entry.definition)
    wanted = f"{facts.form} ({low / facts.scale:g} to {high / facts.scale:g}{facts.unit})"
    found = facts.convert(value)
    if found is None:
        parsed.refuse(key, f"must be {wanted}, not {type_words(value)}")
    elif not low <= found <= high:
        parsed.refuse(key, f"must be {wanted}: this is {'less' if found < low else 'more'}")
    else:
        parsed.add(key, entry.name, str(found), entry.facts)


def _take_setting(parsed: ParsedFile, entry: _Entry, value: object) -> None:
    if value is None or value == "":
        return  # as an empty variable
    if entry.facts.is_list and isinstance(value, list):
        _take_list(parsed, entry, value)
        return
    if not _is_of_type(value, kinds(entry.definition)):
        parsed.refuse(entry.key, f"must be {entry.wanted}, not {type_words(value)}")
    elif isinstance(value, str):
        _take_word(parsed, entry, value)
    elif isinstance(value, bool):
        parsed.add(entry.key, entry.name, str(int(value)), entry.facts)
    elif (problem := problem_of_number(entry.definition, value)) is not None:  # type: ignore[arg-type]  # of that type
        parsed.refuse(entry.key, f"must be {entry.wanted}, not {problem}")
    else:
        parsed.add(entry.key, entry.name, str(value), entry.facts)


def _take_word(parsed: ParsedFile, entry: _Entry, value: str) -> None:
    known = choices(entry.definition)
    if known and value not in known:
        near = "".join(f"; nearest: {word}" for word in difflib.get_close_matches(value, known, n=1))
        parsed.refuse(entry.key, f"must be {expected(entry.definition, is_list=False)}{near}")
    elif not value.isprintable():
        parsed.refuse(entry.key, "must be one line of printable characters")
    else:
        parsed.add(entry.key, entry.name, value, entry.facts)


def _take_list(parsed: ParsedFile, entry: _Entry, values: list[object]) -> None:
    words = []
    for number, word in enumerate(values, start=1):
        if not isinstance(word, str):
            parsed.refuse(entry.key, f"must be {entry.wanted}; entry {number} is {type_words(word)}")
        elif "," in word or not word.strip() or not word.isprintable():
            parsed.refuse(entry.key, f"entry {number} must be one line of printable characters without a comma")
        else:
            words.append(word)
    if words:
        parsed.add(entry.key, entry.name, ",".join(words), entry.facts)


def _take_others(parsed: ParsedFile, table: object) -> None:
    if not isinstance(table, dict):
        parsed.refuse(OTHERS_TABLE, f"must be a table of variables, not {type_words(table)}")
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


def _take_text(parsed: ParsedFile, key: str, name: str, value: object) -> None:
    facts = find_other(name)
    if not isinstance(value, str):
        parsed.refuse(key, f"must be text in quotes, not {type_words(value)}")
    elif not value.isprintable() or facts is None:
        parsed.refuse(key, "must be one line of printable characters")
    elif value:
        parsed.add(key, name, value, facts)


def _is_of_type(value: object, allowed: tuple[Any, ...]) -> bool:
    if isinstance(value, bool):
        return bool in allowed
    if isinstance(value, int):
        return int in allowed or float in allowed
    if isinstance(value, float):
        return float in allowed
    return isinstance(value, str) and any(kind in allowed for kind in (str, Path))


def _nearest(key: object) -> str:
    """Name the known key nearest to one, or the page that lists all."""
    known = {name.lower(): name for name in _known_keys()}
    found = difflib.get_close_matches(str(key)[:128].lower(), known, n=1, cutoff=0.5)
    return f"; nearest known: {known[found[0]]}" if found else "; docs/configuration.md lists all"


def _known_keys() -> Iterable[str]:
    return (*RUNAKODE_KEYS, UNUSED_KEY, *Settings.model_fields, OTHERS_TABLE)
