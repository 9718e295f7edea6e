"""Untrusted names of files: cleaned to be shown and saved, and written into a header."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes

MAX_NAME_BYTES = 255
#: Beyond it a name's original is cut: it is only for looking at.
MAX_ORIGINAL_BYTES = 1024
#: An ending longer than this is not kept when a name must be cut.
MAX_ENDING_BYTES = 32
NAMELESS = "file"
#: Control, format (which can turn text around), surrogate, private, unassigned; line and paragraph separators.
_REMOVED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Characters of a header parameter that need no encoding (RFC 8187, attr-char).
_ATTR_CHARS = "!#$&+-.^_`|~"


@dataclass(frozen=True, slots=True)
class FileName:
    """`name` to show and save under, `original` as it was given, percent-encoded UTF-8 (cut if it is very long)."""

    name: str
    original: str

    @classmethod
    def of(cls, given: str | None) -> FileName:
        """Make a file name of any text of a client, including none."""
        raw = (given or "").encode("utf-8", "surrogatepass")
        return cls(clean(given or ""), quote_from_bytes(raw[:MAX_ORIGINAL_BYTES], safe=""))


def clean(given: str) -> str:
    """Return the last part of a path of any system without invisible characters, at most 255 bytes of UTF-8.

    Never empty, `.` or `..`; cleaning what is clean changes nothing.
    """
    last = given.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Spaces that are not the one on the keyboard become it.
    plain = "".join(" " if unicodedata.category(char) == "Zs" else char for char in last)
    # Removing can bring together what composes, and composing never makes what is removed.
    seen = "".join(char for char in plain if unicodedata.category(char) not in _REMOVED)
    name = _shortened(_trimmed(unicodedata.normalize("NFC", seen)))
    return name or NAMELESS


def content_disposition(name: str) -> str:
    """Return `attachment` under that name: in ASCII for old readers, as it is for the others (RFC 6266)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    # Some readers decode a % here too, so it is not one.
    plain = "".join(char if char.isprintable() and char not in '"\\%' else "_" for char in plain)
    header = f'attachment; filename="{plain.strip() or NAMELESS}"'
    if plain == name:
        return header
    return f"{header}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS, errors='replace')}"


def _trimmed(name: str) -> str:
    """Remove spaces around a name and dots after it, which some systems drop."""
    end = len(name)
    while end and (name[end - 1] == "." or name[end - 1].isspace()):
        end -= 1
    return name[:end].lstrip()


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = (dot + ending).encode()
    if not stem or len(tail) > MAX_ENDING_BYTES:
        stem, tail = name, b""
    kept = stem.encode()[: MAX_NAME_BYTES - len(tail)].decode("utf-8", "ignore")
    return _trimmed(kept + tail.decode())
