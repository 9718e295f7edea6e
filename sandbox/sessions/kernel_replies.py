"""The messages of a kernel, and the results among them, bounded before they are kept: its code can forge them.

`docs/kernels.md` is the interface.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from protocol.kernel import (
    JSON_TYPES,
    MAX_EXCEPTION_BYTES,
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    MAX_RESULTS,
    MAX_RESULTS_BYTES,
    SHORT_NAMES,
    ExceptionFacts,
)
from protocol.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LENGTH = struct.Struct(">I")
MAX_HEADER_BYTES = 64 * KIB
MAX_PARTS = 64
MAX_MESSAGE_BYTES = 11 * MIB
_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_TRACEBACK_LINES = 200


class KernelBroken(Exception):
    """The kernel sent what docs/kernels.md does not allow."""


class KernelMessage(NamedTuple):
    """One message: its header, and its parts by name, in order."""

    header: dict[str, Any]
    parts: dict[str, bytes]


def encode_message(header: Mapping[str, Any], parts: Mapping[str, bytes] | None = None) -> bytes:
    """Return a message as a kernel reads it."""
    named = parts or {}
    head = orjson.dumps({**header, "parts": [[name, len(data)] for name, data in named.items()]})
    return b"".join((_LENGTH.pack(len(head)), head, *named.values()))


class ReplyParser:
    """Takes messages apart; at most one is held, and between cells no part of any."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header: dict[str, Any] | None = None
        self._sizes: list[tuple[str, int]] = []
        self._needed = _LENGTH.size
        #: Bytes of the parts of a message that began between cells.
        self._skipped = 0

    def feed(self, data: bytes, *, keep: bool = True) -> Iterator[KernelMessage]:
        """Yield the messages that `data` completes; without `keep`, take them apart and keep nothing.

        Raises KernelBroken.
        """
        self._buffer += data
        if not keep:
            self._skip_parts()
        while self._drop_skipped() and len(self._buffer) >= self._needed:
            found = self._step()
            if not keep:
                self._skip_parts()
            elif found is not None:
                yield found

    def _skip_parts(self) -> None:
        """Have the parts of the message that is under way be dropped as they come."""
        if self._header is not None:
            self._skipped = self._needed
            self._header, self._needed = None, _LENGTH.size

    def _drop_skipped(self) -> bool:
        """Drop what has come of skipped parts. Returns whether all of them have come."""
        dropped = min(self._skipped, len(self._buffer))
        del self._buffer[:dropped]
        self._skipped -= dropped
        return self._skipped == 0

    def _step(self) -> KernelMessage | None:
        buffer = self._buffer
        if self._header is not None:
            parts, at = {}, 0
            for name, size in self._sizes:
                parts[name] = bytes(buffer[at : at + size])
                at += size
            del buffer[:at]
            header, self._header, self._needed = self._header, None, _LENGTH.size
            return KernelMessage(header, parts)
        (size,) = _LENGTH.unpack_from(buffer)
        if size > MAX_HEADER_BYTES:
            raise KernelBroken("a header is too long")
        if len(buffer) < _LENGTH.size + size:
            self._needed = _LENGTH.size + size
            return None
        self._header = _object(bytes(buffer[_LENGTH.size : _LENGTH.size + size]))
        self._sizes = _sizes(self._header.pop("parts", []))
        del buffer[: _LENGTH.size + size]
        self._needed = sum(size for _, size in self._sizes)
        return None


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise KernelBroken("a header is not JSON") from e
    if not isinstance(found, dict):
        raise KernelBroken("a header is no object")
    return found


def _sizes(parts: object) -> list[tuple[str, int]]:
    if not isinstance(parts, list) or len(parts) > MAX_PARTS:
        raise KernelBroken("the parts are no list, or too many")
    found = []
    for part in parts:
        if not (isinstance(part, list) and len(part) == 2 and isinstance(part[0], str) and type(part[1]) is int):
            raise KernelBroken("a part is not a name and a size")
        if not 0 <= part[1] <= MAX_MESSAGE_BYTES:
            raise KernelBroken("a part is too long")
        found.append((part[0], part[1]))
    if sum(size for _, size in found) > MAX_MESSAGE_BYTES or len({name for name, _ in found}) != len(found):
        raise KernelBroken("the parts are too long, or one is there twice")
    return found


class ResultList:
    """The results of one run: each as JSON, and how many were dropped because of the bounds."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.dropped = 0
        self._size = self._json_size = 0

    def add(self, message: KernelMessage) -> bytes | None:
        """Keep a `display`; return it as the JSON of a result, None if it is dropped. Raises KernelBroken."""
        header, parts = message
        if len(self.encoded) >= MAX_RESULTS or self._size + sum(map(len, parts.values())) > MAX_RESULTS_BYTES:
            self.dropped += 1
            return None
        result: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in parts.items():
            if not _MIME_TYPE.fullmatch(name):
                raise KernelBroken("a part of a display is not named by a MIME type")
            if name in JSON_TYPES and not self._takes_json(value):
                continue
            content: Any = orjson.Fragment(value) if name in JSON_TYPES else value.decode("utf-8", "replace")
            (result if name in SHORT_NAMES else extra)[SHORT_NAMES.get(name, name)] = content
        if not result and not extra:
            self.dropped += 1
            return None
        if extra:
            result["extra"] = extra
        display_id = header.get("display_id")
        result |= {
            "is_main_result": header.get("is_main_result") is True,
            "display_id": display_id[:256] if isinstance(display_id, str) else None,
            "update": header.get("update") is True,
        }
        encoded = orjson.dumps(result)
        if self._size + len(encoded) > MAX_RESULTS_BYTES:
            self.dropped += 1
            return None
        self._size += len(encoded)
        self.encoded.append(encoded)
        return encoded

    def _takes_json(self, value: bytes) -> bool:
        """Count a value that must be JSON. Returns whether it is, and fits."""
        if self._json_size + len(value) > MAX_JSON_BYTES:
            return False
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            return False
        if _depth(value) > MAX_JSON_DEPTH:
            return False
        self._json_size += len(value)
        return True


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def _depth(value: bytes) -> int:
    """Return how deep valid JSON is nested."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def exception_of(parts: Mapping[str, bytes]) -> ExceptionFacts:
    """Return the exception that a kernel reports, cut to its bounds."""
    texts = {
        name: parts.get(name, b"")[:MAX_EXCEPTION_BYTES].decode("utf-8", "replace")
        for name in ("name", "value", "traceback")
    }
    lines: Sequence[str] = texts["traceback"].split("\n") if texts["traceback"] else ()
    return ExceptionFacts(texts["name"][:256], texts["value"], tuple(lines[:_TRACEBACK_LINES]))
