"""Count requests across any number of api processes, and render the page together with the worker's metrics.

With `PROMETHEUS_MULTIPROC_DIR` (set by the supervisor) each process counts in files of that directory, and the
process that serves /metrics sums them up. The worker's metrics are requested from it at that moment.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from dispatch import WorkerUnavailable

if TYPE_CHECKING:
    from dispatch import Dispatcher

CONTENT_TYPE = CONTENT_TYPE_LATEST
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: The label of a request without a route, or with an unknown method.
NO_ROUTE = "none"
OTHER_METHOD = "other"
#: So many threads ask the worker at the same time what it counts.
ASKERS = 4


class ApiMetrics:
    """The counters of one process of api. Safe from any thread.

    Labels are routes, methods and statuses of the code: nothing that a client can choose, and no key.
    """

    def __init__(self) -> None:
        self._askers = Semaphore(ASKERS)
        self._last = ("", 0)
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "runyard_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.durations = Histogram(
            "runyard_http_request_duration_seconds",
            "From the request's headers to the last byte of its answer.",
            ("method", "route"),
            registry=registry,
            buckets=SECONDS,
        )
        self.refused = Counter(
            "runyard_authentication_refused",
            "Requests with no token or a wrong one, by the code of the error.",
            ("code",),
            registry=registry,
        )

        self.plan_reloads = Counter(
            "runyard_plan_reloads", "Reloads of PLANS_FILE, by result.", ("result",), registry=registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        method = method if method in METHODS else OTHER_METHOD
        self.requests.labels(method, route or NO_ROUTE, status).inc()
        self.durations.labels(method, route or NO_ROUTE).observe(seconds)

    def page(self, dispatcher: Dispatcher) -> bytes:
        """Render all metrics in Prometheus's text format, without the worker's metrics if it does not answer."""
        registry = self._registry
        if os.environ.get(DIRECTORY):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        worker, up = self._worker(dispatcher)
        own = generate_latest(registry).decode()
        return f"{own}{worker}{_WORKER_UP}{up}.0\n".encode()

    def _worker(self, dispatcher: Dispatcher) -> tuple[str, int]:
        """Return what the worker counts, and whether it answers.

        The request may block a thread, and any client may cause one: while ASKERS threads wait, all others get the
        last answer.
        """
        if not self._askers.acquire(blocking=False):
            return self._last
        try:
            found = dispatcher.metrics(), 1
        except WorkerUnavailable:
            found = "", 0
        finally:
            self._askers.release()
        self._last = found
        return found


_WORKER_UP = """# HELP runyard_worker_up Whether the worker answers.
# TYPE runyard_worker_up gauge
runyard_worker_up """


def prepare(directory: Path) -> None:
    """Delete the counts of an earlier start's processes. Call it before the first process counts."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for left in directory.glob("*.db"):
        left.unlink()
