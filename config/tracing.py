"""Traces, sent to `OTEL_EXPORTER_OTLP_ENDPOINT`; if it is unset, nothing is imported and nothing recorded.

A trace is one request: the span `request` in api, beneath it `queue`, `sandbox` and `run` in the worker. Its
context comes in the header `traceparent` (W3C Trace Context) and is passed to the worker in the same form, with the
job. The worker's spans are recorded when the run has ended, with times that were taken anyway; a thread of
OpenTelemetry's sends all of them in batches.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

#: Of no trace: what a request without a `traceparent`, or with a wrong one, comes with.
NO_PARENT = ""
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: Of the request that this thread answers.
_current: ContextVar[str] = ContextVar("traceparent", default=NO_PARENT)

Attributes = Mapping[str, str | int | float | bool]


def parse_traceparent(text: str | None) -> str:
    """Return the header if it is a well-formed traceparent, else NO_PARENT."""
    return text if text is not None and _TRACEPARENT.fullmatch(text) else NO_PARENT


def set_current(traceparent: str) -> None:
    """Make a span the parent of the spans that this thread starts from now on."""
    _current.set(traceparent)


def current() -> str:
    """Return the traceparent of this thread's current span; NO_PARENT where nothing is traced."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class SpanPhase:
    """A span that has been, from `start` to `end` in seconds of the monotonic clock."""

    name: str
    start: float
    end: float
    attributes: Attributes


class Tracer:
    """Records the spans of one process."""

    def __init__(self, component: str) -> None:
        """Begin as the `OTEL_…` variables configure it. Raises ImportError if the extra `otel` is not installed."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = os.environ.get("OTEL_SERVICE_NAME")
        resource = Resource.create({SERVICE_NAME: named or f"runyard-{component}"})
        self._provider: TracerProvider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("runyard")

    def start(self, name: str, parent: str) -> Span:
        """Start the span of a request to this process; the caller ends it with its `end`."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(name, context=_context(parent), kind=SpanKind.SERVER)

    def record(self, parent: str, phases: Iterable[SpanPhase]) -> None:
        """Record spans that have ended, all beneath `parent`.

        The two clocks are compared once for all spans: one that begins when another ends must not seem earlier.
        """
        offset_s = time.time() - time.monotonic()
        context = _context(parent)
        for phase in phases:
            begin_ns, end_ns = (round((moment + offset_s) * 1e9) for moment in (phase.start, phase.end))
            span = self._tracer.start_span(phase.name, context, attributes=phase.attributes, start_time=begin_ns)
            span.end(end_ns)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def traceparent_of(span: Span) -> str:
    """Return the traceparent that makes a span the parent of spans in another process."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def open_tracer(component: str, endpoint: str | None) -> Tracer | None:
    """Start the tracer of this process and its thread; return None where no endpoint is set."""
    if endpoint is None:
        return None
    try:
        return Tracer(component)
    except ImportError:
        log.error("no traces are sent: the extra runyard-server[otel] is not installed")  # noqa: TRY400
        return None


def _context(parent: str) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # A context of its own: nothing that the thread may have lying about belongs to this trace.
    return TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())
