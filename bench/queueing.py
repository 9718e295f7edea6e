"""What a run costs as more of them wait: CPU of api and worker a run, runs a second, and how soon others are heard.

So many clients at a time that the wanted number of runs wait; each asks again when it has its answer. Health is
asked for meanwhile, as somebody would who looks whether the service lives.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from bench import programs, shares
from bench.clocks import MS, cpu_ns
from bench.report import Table
from bench.sampling import FAILURES, Samples, paced, ratio
from bench.service import Service

LENGTHS = (0, 10, 100, 300, 1000)
#: As many runs at a time as keep two processors busy; what is beyond waits.
MAX_RUNS = 8
#: One key is not given the eighth of the queue that is for others.
SETTINGS = {"MAX_RUNS": str(MAX_RUNS), "QUEUE_MAX": "1300", "QUEUE_WAIT_S": "300"}
FILL_WITHIN_S = 60.0
HEALTH_GAP_S = 0.1
LANGUAGE = "bash"
STACK_BYTES = 256 * 1024


def measure(service: Service, seconds: float) -> list[dict[str, Any]]:
    """A row for each length of the queue, then one for each case of `bench.shares`. The service is restarted."""
    service.up(**SETTINGS)
    rows = [_at(service, length, seconds) for length in LENGTHS]
    return rows + shares.measure(service, seconds)


class _Crowd:
    """Clients that ask again and again, until they are told to stop."""

    def __init__(self, service: Service, size: int) -> None:
        self._service = service
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers = self.errors = 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(size)]

    def start(self) -> None:
        old = threading.stack_size(STACK_BYTES)
        for thread in self._threads:
            thread.start()
        threading.stack_size(old)

    def _ask(self) -> None:
        client, request = self._service.client(), programs.body(LANGUAGE, programs.HELLO[LANGUAGE])
        while not self._stop.is_set():
            try:
                client.run(request)
            except FAILURES as e:
                with self._lock:
                    self.errors += 1
                    if self.errors == 1:
                        print(f"a queued run failed: {e}", file=sys.stderr)
            else:
                with self._lock:
                    self.answers += 1
        client.close()

    def end(self) -> None:
        """Ask no more; the answers still due are waited for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _at(service: Service, length: int, seconds: float) -> dict[str, Any]:
    crowd = _Crowd(service, MAX_RUNS + length)
    crowd.start()
    try:
        _fill(service, length)
        pids = service.pids()
        before, answered, began = _cpu(pids), crowd.answers, time.monotonic()
        health = Samples()
        client = service.client()
        while time.monotonic() < began + seconds:
            paced(health, 1, HEALTH_GAP_S, lambda: _health(client))
        after, runs, took_s = _cpu(pids), crowd.answers - answered, time.monotonic() - began
        client.close()
    finally:
        crowd.end()
    service.settle()
    cost = {part: round((after[part] - before[part]) / MS / runs, 2) if runs else None for part in before}
    return {
        "waiting": length,
        "runs_per_s": round(runs / took_s, 1),
        "api_ms": cost["api"],
        "worker_ms": cost["worker"],
        "health_p50_ms": health.ms(0.5),
        "health_p99_ms": health.ms(0.99),
        "errors": crowd.errors + health.errors,
    }


def _fill(service: Service, length: int) -> None:
    """Wait until (nearly) that many runs wait: a few are always on their way."""
    deadline = time.monotonic() + FILL_WITHIN_S
    while service.dispatcher.status()["queue"]["waiting"] < length * 0.9:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no queue of {length} came about: {service.dispatcher.status()['queue']}")
        time.sleep(0.1)


def _cpu(pids: dict[str, list[int]]) -> dict[str, int]:
    return {part: cpu_ns(pids[part]) for part in ("api", "worker")}


def _health(client: Any) -> float:
    began = time.perf_counter()
    client.call("GET", "/healthz")
    return time.perf_counter() - began


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a length, and one a case."""
    rows, beside = [row for row in rows if "waiting" in row], [row for row in rows if "beside" in row]
    shown = Table(
        f"Cost of a {LANGUAGE} run by the number that wait ({MAX_RUNS} at a time run)",
        ("waiting", "runs/s", "of an empty queue", "api CPU ms", "worker CPU ms", "health p50 / p99 ms", "errors"),
    )
    for row in rows:
        shown.rows.append(
            (
                row["waiting"],
                row["runs_per_s"],
                ratio(row["runs_per_s"], rows[0]["runs_per_s"]),
                row["api_ms"],
                row["worker_ms"],
                f"{row['health_p50_ms']} / {row['health_p99_ms']}",
                row["errors"],
            )
        )
    return [shown, shares.table(beside)] if beside else [shown]
