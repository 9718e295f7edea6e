"""One JSON object per line, whatever a user has put into the text, and never a token in it.

`setup` is called once by each process of the service. Secrets are looked for in two ways: by their value (what
`API_KEYS`, `SIGNING_KEY` and the S3 credentials of this process hold) and by where they stand (`Bearer …`,
`token=…`, `X-Amz-Signature=…`), because a wrong token is somebody's token too.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

MASK = "***"
#: Shorter ones would be found in every other word.
MIN_SECRET_LENGTH = 4
MAX_DEPTH = 8
_BEARER = re.compile(r"(?i)(\bbearer\s+)[^\s\"',]+")
_TOKEN = re.compile(r"(?i)(\b(?:token|x-amz-signature|x-amz-security-token)=)[^\s&\"'#]+")
_S3_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Formatter(JsonFormatter):
    """`at`, `level`, `component`, `logger`, `message`, then what the call gave as `extra`."""

    def __init__(self, component: str, secrets: frozenset[str]) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "at", "levelname": "level", "name": "logger"},
            static_fields={"component": component},
            json_ensure_ascii=True,
        )
        # UTC: the lines of all processes compare, wherever the machine stands.
        self.converter = time.gmtime
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"
        found = sorted((s for s in secrets if len(s) >= MIN_SECRET_LENGTH), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, found))) if found else None

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """The last look at a record before it is written."""
        return {key: self._masked(value) for key, value in log_data.items()}

    def _masked(self, value: object, depth: int = 0) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth < MAX_DEPTH and isinstance(value, dict):
            return {str(key): self._masked(item, depth + 1) for key, item in value.items()}
        if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item, depth + 1) for item in value]
        text = value if isinstance(value, str) else str(value)
        text = _TOKEN.sub(rf"\1{MASK}", _BEARER.sub(rf"\1{MASK}", text))
        return self._secrets.sub(MASK, text) if self._secrets else text


def setup(component: str, level: str = "INFO") -> None:
    """Send this process's log, warnings and uncaught errors to stderr, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(component, _secrets(dict(os.environ))))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A record that cannot be formatted must not put a traceback of many lines among the objects.
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _secrets(environ: dict[str, str]) -> frozenset[str]:
    tokens = (entry.strip().split(":")[0] for entry in environ.get("API_KEYS", "").split(","))
    signing = (part.strip() for part in environ.get("SIGNING_KEY", "").split(","))
    s3 = (environ.get(name, "") for name in _S3_SECRETS)
    return frozenset((*tokens, *signing, *s3)) - {""}


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("uncaught").critical("uncaught error", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("uncaught").critical(
            "uncaught error in a thread", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )
