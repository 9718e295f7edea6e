"""Read the line that the worker sends at the front of each connection: for whom it is, and its patterns.

A line with the operation `change` instead replaces the patterns of a session, and no bytes follow it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from config.network_patterns import MAX_PATTERNS, PatternInvalid
from egress.policy import Policy

MAX_LINE_BYTES = 128 * 1024
_LABEL = re.compile(r"[\x21-\x7e]{1,128}")


class OpeningInvalid(ValueError):
    """A line that the worker of this service does not send."""


@dataclass(frozen=True, slots=True)
class Opening:
    """One connection of a program: the id of its run or session, its key, its patterns and its bytes left.

    `version` counts the changes of the patterns. With `is_change` this is no connection: the open ones of the run
    are judged by these patterns. `for_build`: the hosts are the registries of a build of packages, which the
    operator has named; any address of theirs may be reached, and they are resolved as this machine does.
    """

    run: str
    key: str
    policy: Policy
    left: int | None
    version: int = 0
    is_change: bool = False
    for_build: bool = False


def read_opening(line: bytes) -> Opening | None:
    """Read the line; None for a question about this process (`{"op":"status"}`). Raises OpeningInvalid."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as e:
        raise OpeningInvalid("it is not JSON") from e
    if not isinstance(data, dict):
        raise OpeningInvalid("it is not an object")
    if data.get("op") == "status":
        return None
    run, key, left = data.get("run"), data.get("key"), data.get("left")
    if data.get("op") not in ("connect", "change") or not _is_label(run) or not _is_label(key):
        raise OpeningInvalid("it names no run")
    if left is not None and not _is_number(left):
        raise OpeningInvalid("left is no number of bytes")
    version = data.get("version", 0)
    if not _is_number(version):
        raise OpeningInvalid("version is no number")
    for_build = data.get("for_build", False)
    if not isinstance(for_build, bool):
        raise OpeningInvalid("for_build is neither true nor false")
    try:
        policy = Policy.parse(_patterns(data.get("allow")), _patterns(data.get("deny")))
    except PatternInvalid as e:
        raise OpeningInvalid(f"a pattern is none: {e}") from e
    return Opening(str(run), str(key), policy, left, version, data["op"] == "change", for_build)


def _is_label(value: object) -> bool:
    return isinstance(value, str) and _LABEL.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _patterns(value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_PATTERNS:
        raise OpeningInvalid("the patterns are no list")
    if not all(isinstance(entry, str) for entry in value):
        raise OpeningInvalid("the patterns are no texts")
    return [str(entry) for entry in value]
