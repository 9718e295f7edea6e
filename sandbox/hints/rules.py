"""The rows that read a hint from output: those of the C library, the kernel and common tools, for every language.

The patterns take a time that grows with the length of the text alone: they begin at a word or at a line's begin,
have no repetition in a repetition, and everything that they skip is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from protocol.hints import HintCode


@dataclass(frozen=True, slots=True)
class OutputRule:
    """A row: output in which `pattern` is found gives a hint of `code`.

    `sign` is a text that the output must contain before the pattern is tried. The groups `name`, `path`, `host`,
    `line` and `what` are what the hint quotes.
    """

    code: HintCode
    sign: str
    pattern: re.Pattern[str]


def rule(code: HintCode, sign: str, pattern: str = "") -> OutputRule:
    """Return a row; without a pattern the sign alone is sufficient."""
    return OutputRule(code, sign, re.compile(pattern or re.escape(sign), re.MULTILINE))


#: A path that a message has between quotation marks, or up to the next colon.
IN_QUOTES = r"'(?P<path>[^'\n]{1,400})'"
UP_TO_COLON = r"(?P<path>[^\n:]{1,400})"

COMMON_RULES = (
    # A command: `cat: x: No such file or directory`, `ls: cannot access 'x': No such file or directory`.
    rule("file_not_found", ": No such file", rf"[^\n:]{{1,60}} {IN_QUOTES}: No such file or directory"),
    rule("file_not_found", ": No such file", rf": {UP_TO_COLON}: No such file or directory"),
    rule("file_not_found", "No such file or directory"),
    rule("read_only", "Read-only file system", rf"{IN_QUOTES}: Read-only file system"),
    rule("read_only", "Read-only file system", rf": {UP_TO_COLON}: Read-only file system"),
    rule("read_only", "ead-only file system"),
    rule("read_only", "EROFS"),
    rule("disk_full", "o space left on device"),
    rule("disk_full", "ENOSPC"),
    rule("disk_full", "Disk quota exceeded"),
    rule("out_of_memory", "annot allocate memory"),
    rule("out_of_memory", "ENOMEM"),
    rule("out_of_memory", "std::bad_alloc"),
    # Not every refused call says so: a read that would block has the same text.
    rule("pids_exhausted", "fork: ", r"fork: (?:retry: )?Resource temporarily unavailable"),
    rule("pids_exhausted", "annot fork"),
    rule("network_disabled", "ould not resolve host", r"ould not resolve host:? (?P<host>[^\s:;()]{1,253})"),
    rule("network_disabled", "unable to resolve host address", r"address .(?P<host>[^\s'’]{1,253})['’]"),
    rule("network_disabled", "emporary failure in name resolution"),
    rule("network_disabled", "emporary failure resolving", r"resolving '(?P<host>[^'\s]{1,253})'"),
    rule("network_disabled", "Name or service not known"),
    rule("network_disabled", "etwork is unreachable"),
    rule("network_disabled", "failed to lookup address information"),
    # Of the proxy of a run that may reach some hosts, as its own answer and as clients report it.
    rule("network_disabled", "runyard: the conn", r"the connection to (?P<host>[^\s:]{1,253}):\d{1,5} is refused"),
    rule("network_disabled", "CONNECT tunnel failed, response 403"),
    rule("network_disabled", "Proxy response (403)"),
    rule("network_disabled", "Tunnel connection failed: 403"),
    rule("syscall_refused", "peration not permitted"),
    rule("syscall_refused", "unction not implemented"),
)
