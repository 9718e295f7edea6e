"""Hold the worker's metrics in one registry; api requests them as text and shows them with its own.

Labels are languages, statuses and codes that are in the code or the catalogue: nothing that a user can choose.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

#: From a warm sandbox's answer to the longest run and the longest wait in the queue, in seconds.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The counters and histograms of one worker. Safe from any thread."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began is worth no line of its own
        registry = self.registry = CollectorRegistry()
        self.runs = Counter("runyard_runs", "Runs that have ended.", ("language", "status"), registry=registry)
        self.refused = Counter(
            "runyard_runs_refused",
            "Runs that were not taken, by the code of the error.",
            ("code",),
            registry=registry,
        )
        self.queue_wait = Histogram(
            "runyard_queue_wait_seconds",
            "From a run's acceptance to its place.",
            registry=registry,
            buckets=SECONDS,
        )
        self.sandbox_wait = Histogram(
            "runyard_sandbox_wait_seconds",
            "Time from a run's place to a sandbox with applied limits.",
            ("language", "source"),
            registry=registry,
            buckets=SECONDS,
        )
        self.duration = Histogram(
            "runyard_run_duration_seconds",
            "From the job's being sent to its sandbox to its end, artifacts included.",
            ("language",),
            registry=registry,
            buckets=SECONDS,
        )
        self.starts = Histogram(
            "runyard_sandbox_start_seconds",
            "Making one sandbox, until its agent is ready.",
            ("language",),
            registry=registry,
            buckets=SECONDS,
        )
        self.taken = Counter(
            "runyard_sandboxes_taken",
            "Sandboxes given to runs, by where they came from.",
            ("language", "source"),
            registry=registry,
        )
        self.misses = Counter(
            "runyard_pool_misses", "Runs for which no warm sandbox was ready.", ("language",), registry=registry
        )
        self.engine_errors = Counter(
            "runyard_engine_errors",
            "Failures of the engine, in a start or in a run.",
            ("during",),
            registry=registry,
        )
        for during in ("start", "run"):  # there from the beginning, so that the first one is an increase
            self.engine_errors.labels(during)

    def text(self) -> str:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry).decode()
