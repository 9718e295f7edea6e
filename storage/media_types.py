"""The type of a file, from its name and its first bytes, and the type under which the service may send it.

The detected type is metadata and may be HTML or SVG. The *served* type differs: the API's
origin serves nothing that a browser would run or render as a document.
"""

from __future__ import annotations

import mimetypes

BYTES = "application/octet-stream"
TEXT = "text/plain"

_BY_ENDING = mimetypes.MimeTypes()  # Python's own table, not the machine's
#: Common types that Python 3.11's table lacks (IANA's media types).
for _ending, _type in {
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".parquet": "application/vnd.apache.parquet",
    ".md": "text/markdown",
    ".jsonl": "application/jsonl",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".7z": "application/x-7z-compressed",
}.items():
    _BY_ENDING.add_type(_type, _ending)
_BY_ENCODING = {
    "gzip": "application/gzip",
    "compress": "application/x-compress",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": BYTES,
}
#: First bytes, and the type they are the mark of.
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_MARKED = frozenset(kind for _, kind in _MARKS) | {"image/webp"}
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b")

_SERVED_PREFIXES = ("audio/", "video/", "font/", "application/vnd.openxmlformats-officedocument.")
_SERVED = frozenset(
    {
        *_MARKED,
        "image/avif",
        "image/bmp",
        "image/tiff",
        "text/csv",
        "application/json",
        "application/jsonl",
        "application/x-tar",
        "application/x-7z-compressed",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/vnd.oasis.opendocument.text",
    }
)


def media_type(name: str, head: bytes) -> str:
    """Return the type by the name's ending, or by the first bytes where the ending is unknown or wrong."""
    kind = by_ending(name)
    marked = _by_mark(head)
    if kind is None:
        return marked or (TEXT if head and _is_text(head) else BYTES)
    # An invalid image, or a PNG with a PDF's name.
    return marked or BYTES if kind in _MARKED and kind != marked else kind


def by_ending(name: str) -> str | None:
    """Return the type of the name's ending, if it is known."""
    # The name must not be parsed as a URL; and a name that is only an ending has a type too.
    kind, encoding = _BY_ENDING.guess_type("x" + name.rpartition("/")[2].replace(":", "_"), strict=True)
    return kind if encoding is None else _BY_ENCODING.get(encoding, BYTES)


def served_type(kind: str) -> str:
    """Return the type with which a download of such a file is served: its own, plain text or bytes."""
    kind = kind.partition(";")[0].strip().lower()
    if kind in _SERVED or (kind.startswith(_SERVED_PREFIXES) and not kind.endswith("xml")):
        return kind
    return "text/plain; charset=utf-8" if kind.startswith("text/") else BYTES


def _by_mark(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _MARKS if head.startswith(mark)), None)


def _is_text(head: bytes) -> bool:
    """Return whether bytes are UTF-8, perhaps cut within a character, without unusual control characters."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as e:
        if e.reason != "unexpected end of data" or e.end != len(head):
            return False
    return all(byte >= 0x20 or byte in _TEXT_CONTROLS for byte in head)
