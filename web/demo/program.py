"""The request of a browser: checked, and reduced to a language and a program."""

from __future__ import annotations

import json
from email.message import Message
from io import BufferedIOBase

MAX_BODY_BYTES = 1024 * 1024
LANGUAGES = ("bash", "go", "javascript", "python", "rust", "typescript")
_FIELDS = frozenset({"code", "lang"})


class RequestError(Exception):
    """The request cannot be served: the status, a code, a sentence, and the field that is wrong."""

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = headers or {}


def parse_program(headers: Message, body: BufferedIOBase) -> tuple[str, str]:
    """Return the language and the program of a request. Raises RequestError."""
    _check_origin(headers)
    data = _read(headers, body)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise RequestError(400, "bad_request", "The body is not valid JSON.") from e
    if not isinstance(found, dict):
        raise RequestError(400, "bad_request", "The body must be an object with `lang` and `code`.")
    for name in sorted(found.keys() - _FIELDS):
        shown = name if name.isprintable() and len(name) <= 40 else "a field"
        raise RequestError(
            400, "bad_request", f"{shown}: is not accepted here; there are `lang` and `code`.", shown
        )
    lang, code = found.get("lang"), found.get("code")
    if lang not in LANGUAGES:
        raise RequestError(400, "bad_request", f"lang: must be one of {', '.join(LANGUAGES)}.", "lang")
    if not isinstance(code, str) or not code:
        raise RequestError(400, "bad_request", "code: must be a text of at least one character.", "code")
    return lang, code


def _check_origin(headers: Message) -> None:
    """Refuse requests that a page of another origin makes: a browser names it, and asks before it sends JSON."""
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise RequestError(403, "forbidden", "Only the demo's own page may run programs here.")
    if headers.get_content_type() != "application/json" or "Content-Type" not in headers:
        raise RequestError(415, "unsupported_media_type", "Content-Type must be application/json.")


def _read(headers: Message, body: BufferedIOBase) -> bytes:
    lengths = headers.get_all("Content-Length", [])
    if "Transfer-Encoding" in headers or len(lengths) != 1 or not _is_number(lengths[0]):
        raise RequestError(
            411, "length_required", "The request needs one Content-Length, and no Transfer-Encoding."
        )
    length = int(lengths[0])
    if length > MAX_BODY_BYTES:
        message = f"The request is too large: a program and its form may have {MAX_BODY_BYTES} bytes."
        raise RequestError(413, "too_large", message, "code")
    try:
        data = body.read(length)
    except OSError as e:
        raise RequestError(408, "timeout", "The request did not arrive in time.") from e
    if len(data) != length:
        raise RequestError(400, "bad_request", "The body is shorter than its Content-Length.")
    return data


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
