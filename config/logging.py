"""One JSON object per line, for any text that a user may send, and never a token in it.

`setup` is called once by each process of the service. Secrets are looked for in two ways: by their value (the
caller gives `config.environment.secrets_in` of its environment) and by where they stand (`Bearer …`, `token=…`,
`?key=…`, `X-Amz-Signature=…`), because an invalid token may be another service's valid one.

A thread names its subject once with `bind`; every line of the thread then has `request_id` and `run_id`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import threading
import time
from contextvars import ContextVar
from types import NoneType, TracebackType
from typing import Any

import orjson
from pythonjsonlogger.json import JsonFormatter

from config.variables import MASK, MIN_SECRET_LENGTH

MAX_DEPTH = 8
#: Of one text, such as a traceback; what is beyond it is cut off.
MAX_TEXT = 32 * 1024
#: Written at every LOG_LEVEL: actions and their callers.
ALWAYS = ("audit", "access")
#: Written from WARNING on at every LOG_LEVEL: each start would report steps that concern no operator.
QUIET = ("alembic",)
_BEARER = re.compile(r"(?i)(\bbearer\s+)[^\s\"',]+")
_TOKEN = re.compile(r"(?i)((?:\b(?:token|x-amz-signature|x-amz-security-token)|[?&]key)=)[^\s&\"'#]+")
_NUMBERS = (int, bool, NoneType)
#: A stored key, wherever it stands: its prefix, which is shown on purpose, is shorter. And a session's token.
_KEY = re.compile(r"\b(?:ry_[0-9A-Za-z]{38}|st_[a-z2-7]{26}_[0-9a-f]{64})")
_SUSPECT = ("bearer", "token=", "?key=", "&key=", "x-amz-signature=", "ry_", "st_")

_context: ContextVar[dict[str, str]] = ContextVar("log_context", default={})  # noqa: B039  # never changed in place


def bind(**fields: str | None) -> None:
    """Add these fields to every later log line of this thread; None and empty values remove a field."""
    _context.set({name: value for name, value in fields.items() if value})


def bind_also(**fields: str) -> None:
    """Add to what the lines of this thread concern."""
    _context.set(_context.get() | fields)


def bound() -> dict[str, str]:
    """Return the fields that are bound to this thread's log lines, to bind them in another thread."""
    return _context.get()


def _add_context(record: logging.LogRecord) -> bool:
    """Add the thread's fields to a record that does not have them; let every record pass."""
    for name, value in _context.get().items():
        record.__dict__.setdefault(name, value)
    return True


class Formatter(JsonFormatter):
    """`at`, `level`, `component`, `logger`, `message`, then what the call gave as `extra`."""

    def __init__(self, component: str, secrets: frozenset[str]) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger"},
            static_fields={"component": component},
            json_ensure_ascii=True,
        )
        #: The newest second, and how it is written.
        self._second = (0, "")
        found = sorted((s for s in secrets if len(s) >= MIN_SECRET_LENGTH), key=len, reverse=True)
        self._found = tuple(found)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802
        """Format a record's time as RFC 3339 in UTC, so that the lines of all processes compare."""
        second, written = self._second
        if second != int(record.created):
            second = int(record.created)
            written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, written
        return f"{written}.{int(record.msecs):03d}Z"

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a record as they are written, with secrets masked."""
        # Nearly no line holds anything to hide: one look at all its texts is a tenth of three for each of them.
        texts = "\n".join([value for value in log_data.values() if type(value) is str])
        plain = len(texts) <= MAX_TEXT and not self._hides_something(texts)
        return {
            key: value if type(value) in _NUMBERS or (plain and type(value) is str) else self._masked(value)
            for key, value in log_data.items()
        }

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Encode the fields in ASCII: no character of any alphabet can end the line for a reader."""
        try:
            line = orjson.dumps(log_data)
        except TypeError:  # a lone surrogate, or a number of more than 64 bits
            return json.dumps(log_data)
        return line.decode() if line.isascii() else json.dumps(log_data)

    def _masked(self, value: object, depth: int = 0) -> object:
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth < MAX_DEPTH and isinstance(value, dict):
            return {self._text(str(key)): self._masked(item, depth + 1) for key, item in value.items()}
        if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item, depth + 1) for item in value]
        return self._text(str(value))

    def _hides_something(self, text: str) -> bool:
        lower = text.lower()
        return any(word in lower for word in _SUSPECT) or any(secret in text for secret in self._found)

    def _text(self, text: str) -> str:
        if self._hides_something(text):
            text = _KEY.sub(MASK, _TOKEN.sub(rf"\1{MASK}", _BEARER.sub(rf"\1{MASK}", text)))
            text = self._secrets.sub(MASK, text) if self._secrets else text
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


class LineHandler(logging.Handler):
    """Writes each line by one write(2), so that the lines of processes that share the file never mix."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or lose it: nothing may fail because the disk is full."""
        try:
            line = memoryview(self.format(record).encode() + b"\n")
            while line:
                line = line[os.write(2, line) :]
        except Exception:  # noqa: BLE001  # a value's own repr may raise anything
            self.handleError(record)


def setup(component: str, level: str, secrets: frozenset[str]) -> None:
    """Send this process's log, warnings and uncaught errors to stderr, one JSON object per line without secrets."""
    handler = LineHandler()
    handler.setFormatter(Formatter(component, secrets))
    handler.addFilter(_add_context)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ALWAYS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A record that cannot be formatted must not put a traceback of many lines among the objects.
    logging.raiseExceptions = False
    # Nothing of these is in a line, and each costs something for every record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("uncaught").critical("uncaught error", exc_info=(kind, error, trace))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        logging.getLogger("uncaught").error(
            "error where none can be raised", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("uncaught").critical(
            "uncaught error in a thread", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )
