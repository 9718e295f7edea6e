"""Record each request: its line in the access log, its metrics, and the `request` span of its trace.

`begin` is called by the application before anything else, `end` by the server when the last byte has been sent:
only it knows how many there were. Between the two the facts travel in the request's environ.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.http.ids import is_run_id, request_id
from config.logging import bind, bound
from config.tracing import parse_traceparent, set_current, traceparent_of

if TYPE_CHECKING:
    from flask import Request
    from opentelemetry.trace import Span

    from api.http.metrics import ApiMetrics
    from config.tracing import Tracer

access_log = logging.getLogger("access")
audit_log = logging.getLogger("audit")

ENVIRON_KEY = "runyard.access"
#: Lines about those who have no token, or have used up what it allows: so many at once, and then so many a second.
#: Further lines are only counted, so that rejected requests cannot fill the disk.
BURST = 100
LINES_PER_S = 10.0
REFUSED = 429
NO_METHOD = "none"


class LineBudget:
    """Lets a bounded number of lines through, and counts those that it does not. Safe for many threads."""

    def __init__(self, per_s: float = LINES_PER_S, burst: int = BURST) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at, self._dropped = float(burst), time.monotonic(), 0
        self._lock = threading.Lock()

    def spend(self) -> int | None:
        """Take a token for one log line. Returns the number of lines dropped before it; None drops this one too."""
        with self._lock:
            now = time.monotonic()
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now
            if self._left < 1:
                self._dropped += 1
                return None
            self._left -= 1
            dropped, self._dropped = self._dropped, 0
            return dropped


@dataclass(slots=True)
class RequestRecord:
    """One request, as far as it is known yet. `route` is the pattern; empty where no route was found."""

    request_id: str
    method: str
    route: str = ""
    key: str | None = None
    label: str | None = None
    span: Span | None = None


class AccessLog:
    """Writes down the requests of one process. `begin` and `end` of a request are called in the same thread."""

    def __init__(self, metrics: ApiMetrics, *, log: bool = True, tracer: Tracer | None = None) -> None:
        self._metrics = metrics
        self._log = log
        self._tracer = tracer
        self._anonymous = LineBudget()
        self._refusals = LineBudget()

    def begin(self, request: Request) -> None:
        """Begin the record of a request: the log lines of this thread now carry its id."""
        rule = request.url_rule
        facts = RequestRecord(
            request_id(request.headers.get("x-request-id")), request.method, rule.rule if rule else ""
        )
        request.environ[ENVIRON_KEY] = facts
        run_id = (request.view_args or {}).get("run_id", "")
        bind(request_id=facts.request_id, run_id=run_id if is_run_id(run_id) else None)
        if self._tracer is not None:
            facts.span = self._tracer.start("request", parse_traceparent(request.headers.get("traceparent")))
            set_current(traceparent_of(facts.span))

    def end(self, environ: dict[str, Any], status: int, seconds: float, sent: int) -> None:
        """Log a request whose answer was sent or could not be sent."""
        facts = environ.pop(ENVIRON_KEY, None)
        if isinstance(facts, RequestRecord):  # else no request was begun, and the server answers itself
            self._end(facts, status, seconds, sent, environ.get("REMOTE_ADDR"))

    def log_unparsed(self, request_id: str, status: int, sent: int, remote: str | None) -> None:
        """Log a request that the server could not parse and has answered with an error."""
        bind(request_id=request_id)
        self._end(RequestRecord(request_id, NO_METHOD), status, 0.0, sent, remote)

    def log_auth_failure(self, code: str, remote: str | None) -> None:
        """Log a request with no token or an unknown one."""
        self._metrics.refused.labels(code).inc()
        if (dropped := self._refusals.spend()) is not None:
            audit("authentication.refused", code=code, remote=remote, **_said(dropped))

    def _end(self, facts: RequestRecord, status: int, seconds: float, sent: int, remote: str | None) -> None:
        run_id = bound().get("run_id")
        self._metrics.answered(facts.method, facts.route, status, seconds)
        if facts.span is not None:
            _end_span(facts.span, facts, status, run_id)
        if self._log:
            self._write(facts, status, seconds, sent, remote)
        bind()

    def _write(self, facts: RequestRecord, status: int, seconds: float, sent: int, remote: str | None) -> None:
        told: dict[str, object] = {}
        if facts.key is None or status == REFUSED:
            if (dropped := self._anonymous.spend()) is None:
                return
            told = _said(dropped)
        told |= {
            "method": facts.method,
            "route": facts.route or None,
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "key": facts.key,
            "label": facts.label,
            "remote": remote,
            "bytes": sent,
        }
        access_log.info("request", extra=told)


def audit(event: str, **about: object) -> None:
    """Write down what was done. The request and the run that the thread is about are added."""
    audit_log.info(event, extra={"event": event, **about})


def attach_caller(environ: dict[str, Any], key: str, label: str) -> None:
    """Attach the id and the label of the caller's key to the record of the request."""
    facts = environ.get(ENVIRON_KEY)
    if isinstance(facts, RequestRecord):
        facts.key, facts.label = key, label


def _said(dropped: int) -> dict[str, object]:
    return {"lines_dropped_before": dropped} if dropped else {}


def _end_span(span: Span, facts: RequestRecord, status: int, run_id: str | None) -> None:
    span.set_attribute("http.request.method", facts.method)
    span.set_attribute("http.route", facts.route)
    span.set_attribute("http.response.status_code", status)
    span.set_attribute("runyard.request_id", facts.request_id)
    if run_id is not None:
        span.set_attribute("runyard.run_id", run_id)
    span.end()
