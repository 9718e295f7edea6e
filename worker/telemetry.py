"""Report each run in addition to its result: a line in the log, metrics, and the spans of its trace."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from config.tracing import SpanPhase
from protocol.result import Refusal, Result

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from config.tracing import Tracer
    from protocol.job import Job
    from sandbox.admission.control import Admission
    from sandbox.metrics import Metrics
    from sandbox.pool.warm_pool import WarmPool
    from sandbox.run.live import LiveRun

log = logging.getLogger(__name__)

MIB = 1024 * 1024


class Observer:
    """Sees every run of a worker come to its end."""

    def __init__(self, metrics: Metrics, tracer: Tracer | None = None) -> None:
        self._metrics = metrics
        self._tracer = tracer

    def refused(self, refusal: Refusal) -> None:
        """Report a run that was refused, or that never got a place."""
        self._metrics.refused.labels(refusal.code).inc()

    def ended(self, job: Job, live: LiveRun, outcome: Result | Refusal) -> None:
        """Report the end of a run; call it in the thread whose log lines carry the run's id."""
        if isinstance(outcome, Refusal):
            self.refused(outcome)
            return
        marks, metrics, now = live.timestamps, self._metrics, live.timestamps.ended
        source = outcome.isolation.source if outcome.isolation else "none"
        metrics.runs.labels(outcome.language, outcome.status).inc()
        if outcome.error is not None and outcome.error.code == "engine_error":
            metrics.engine_errors.labels("run").inc()
        told: dict[str, object] = {
            "status": outcome.status,
            "exit_code": outcome.exit_code,
            "signal": outcome.signal,
            "language": outcome.language,
            "source": source,
        }
        if outcome.error is not None:
            told["error"] = outcome.error.code
        admitted = marks.admitted or now
        metrics.queue_wait.observe(admitted - marks.accepted)
        told["queue_ms"] = _ms(admitted - marks.accepted)
        if marks.admitted is not None:
            ready = marks.ready or now
            told["sandbox_ms"] = _ms(ready - admitted)
            if marks.ready is not None:
                metrics.sandbox_wait.labels(outcome.language, source).observe(ready - admitted)
                metrics.duration.labels(outcome.language).observe(now - ready)
                told["run_ms"] = _ms(now - ready)
        log.info("run ended", extra=told)
        if self._tracer is not None and job.traceparent:
            self._trace(self._tracer, job, live, outcome, now)

    def _trace(self, tracer: Tracer, job: Job, live: LiveRun, outcome: Result, now: float) -> None:
        marks = live.timestamps
        about = {"runyard.run_id": job.run_id, "runyard.language": outcome.language}
        phases = [SpanPhase("queue", marks.accepted, marks.admitted or now, about)]
        if marks.admitted is not None:
            source = outcome.isolation.source if outcome.isolation else "none"
            found = {**about, "runyard.source": source}
            phases.append(SpanPhase("sandbox", marks.admitted, marks.ready or now, found))
        if marks.ready is not None:
            phases.append(SpanPhase("run", marks.ready, now, {**about, "runyard.status": outcome.status}))
        tracer.record(job.traceparent, phases)


class Gauges(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, admission: Admission, pool: WarmPool) -> None:
        self._admission = admission
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        load = self._admission.load()
        yield GaugeMetricFamily("runyard_queue_depth", "Runs that wait for a place.", load.waiting)
        yield GaugeMetricFamily("runyard_runs_in_progress", "Runs that hold a place.", load.running)
        yield GaugeMetricFamily(
            "runyard_memory_limits_bytes", "Sum of the memory limits of runs in progress.", load.memory_mb * MIB
        )
        size = GaugeMetricFamily("runyard_pool_size", "Warm sandboxes wanted.", labels=("language",))
        ready = GaugeMetricFamily("runyard_pool_ready", "Warm sandboxes that wait.", labels=("language",))
        for language, counts in self._pool.counts().items():
            size.add_metric((language,), counts["size"])
            ready.add_metric((language,), counts["ready"])
        yield size
        yield ready


def register_gauges(registry: CollectorRegistry, admission: Admission, pool: WarmPool) -> None:
    """Register the gauges, and the kernel's figures of this process."""
    registry.register(Gauges(admission, pool))
    ProcessCollector(namespace="runyard_worker", registry=registry)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
