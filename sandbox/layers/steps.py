"""Run one step of a build in its sandbox, and read what it prints; all of it is a sandbox's word."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from typing import TYPE_CHECKING

from sandbox.frames import ProtocolError
from sandbox.layers.facts import LockedPackage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.layers.credentials import Credentials
    from sandbox.sessions.channel import ProcessEnd, SessionChannel

#: The most lines of output of a build that are passed on, and the characters of each.
MAX_LINES = 2_000
MAX_LINE_LENGTH = 500
#: The bytes of a line that are read. It is longer than what is passed on, so that a masked password has its end.
MAX_HELD_BYTES = 32 * MAX_LINE_LENGTH
#: The last lines of a failed tool, for the message to its client.
TAIL_LINES = 12
MAX_PACKAGES = 10_000
#: Seconds between two looks at the time.
LOOK_S = 1.0
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,214}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def run_step(
    channel: SessionChannel,
    text: bytes,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    deadline: float,
) -> ProcessEnd | None:
    """Give a process its input and take its output until its end; None if it has not ended at the deadline.

    Raises ChannelEnded, and what the functions do.
    """
    if text and not channel.write_all(text, max(0.0, deadline - time.monotonic())):
        channel.kill()
        return None
    channel.end_input()
    while channel.end is None:
        left = deadline - time.monotonic()
        if left <= 0:
            channel.kill()
            return None
        channel.wait(min(left, LOOK_S))
        for kind, data in channel.take():
            (on_stdout if kind == "stdout" else on_stderr)(data)
    return channel.end


class StepOutput:
    """The output of a tool as lines, without its escapes, within these bounds: all that a client sees of it."""

    def __init__(self, on_line: Callable[[str], None], credentials: Credentials) -> None:
        """`credentials` are those of the registry, which no line has."""
        self._on_line = on_line
        self._credentials = credentials
        self._held = b""
        self._count = 0
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def take(self, data: bytes) -> None:
        """Take the next bytes, however they are cut."""
        *lines, self._held = (self._held + data).split(b"\n")
        self._held = self._held[:MAX_HELD_BYTES]
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """Take what is left as the last line."""
        held, self._held = self._held, b""
        if held:
            self._line(held)

    def tail(self) -> str:
        """Return the last lines."""
        return "\n".join(self._tail)

    def _line(self, line: bytes) -> None:
        text = _ESCAPES.sub("", line[:MAX_HELD_BYTES].decode("utf-8", "replace")).rstrip()
        # Before it is cut: a part of a password could not be found.
        text = self._credentials.masked(text)[:MAX_LINE_LENGTH]
        if not text:
            return
        self._tail.append(text)
        self._count += 1
        if self._count <= MAX_LINES:
            self._on_line(text)


def read_installed(text: bytes) -> tuple[int, str | None, str | None]:
    """Read the answer of `install`: the tool's status, the missing entry, and a requirement without a wheel.

    Raises ProtocolError.
    """
    try:
        found = json.loads(text)
        status, missing, source = found["status"], found["missing"], found["source"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise ProtocolError("the outcome of an installation is none") from e
    if type(status) is not int or not all(one is None or isinstance(one, str) for one in (missing, source)):
        raise ProtocolError("the outcome of an installation is none")
    return status, missing, None if source is None else source[:MAX_LINE_LENGTH]


def read_packages(text: bytes) -> tuple[LockedPackage, ...]:
    """Read the packages that a builder reports: a list of name, version and hash. Raises ProtocolError."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ProtocolError("the report of a build is not JSON") from e
    if not isinstance(found, list) or len(found) > MAX_PACKAGES:
        raise ProtocolError("the report of a build is no list")
    return tuple(_package(entry) for entry in found)


def _package(entry: object) -> LockedPackage:
    if not isinstance(entry, list) or [type(part) for part in entry] != [str, str, str]:
        raise ProtocolError("a package in the report of a build is none")
    name, version, sha256 = entry
    if not _NAME.fullmatch(name) or not _NAME.fullmatch(version) or not _SHA256.fullmatch(sha256):
        raise ProtocolError("a package in the report of a build is none")
    return LockedPackage(name, version, sha256)
