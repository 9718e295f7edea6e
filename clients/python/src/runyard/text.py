"""Escaping of untrusted text for a terminal and a file system."""

from __future__ import annotations

import unicodedata

#: Bytes of a name that every usual file system takes, with room for a number.
_MAX_NAME_BYTES = 200
#: Not names on every system, or with a meaning of their own there.
_SPECIAL = frozenset('<>:"|?*\\/')
#: Categories of invisible characters: control, format (including changes of direction), surrogate, private,
#: unassigned; line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(text: str) -> str:
    """Escape invisible characters in one line of text, so that they cannot control a terminal."""
    return "".join(char if _seen(char) else _escaped(char) for char in text)


def shown_lines(text: str) -> str:
    """Escape control characters in text of several lines, as `shown` does for one line."""
    return "\n".join(shown(line) for line in text.split("\n"))


def safe_name(name: str) -> str:
    """Make a file name without invisible or special characters; never empty, `.` or `..`."""
    kept = "".join(char if _seen(char) and char not in _SPECIAL else "_" for char in name)
    kept = _shortened(kept.strip().rstrip("."))
    return kept or "_"


def _seen(char: str) -> bool:
    return unicodedata.category(char) not in _UNSEEN


def _escaped(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _shortened(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = f"{dot}{ending}"
    if not stem or len(tail.encode()) > 32:
        stem, tail = name, ""
    return stem.encode()[: _MAX_NAME_BYTES - len(tail.encode())].decode(errors="ignore") + tail
