"""How soon one key's hello is answered while another key takes all that it can get; a case of the part `queue`."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from bench import programs
from bench.report import Table
from bench.sampling import FAILURES, Samples, paced, ratio
from bench.service import OTHER_TOKEN, Service

LANGUAGE = "bash"
HELLO_GAP_S = 0.05
SLEEP_S = 50
CROWD = 150
FILLED_S = 2.0
#: Of a client of the crowd that is refused: a tenth of what it is told, but it does leave the processors to others.
REFUSED_PAUSE_S = 0.5
LIMITS = {"timeout_ms": 60_000}
#: What the greedy key runs; None for none.
CASES: dict[str, dict[str, Any] | None] = {
    "nothing": None,
    "sleepers of 2 GB": {"code": f"sleep {SLEEP_S}", "limits": {**LIMITS, "memory_mb": 2048}, "background": True},
    "sleepers": {"code": f"sleep {SLEEP_S}", "limits": LIMITS, "background": True},
    "a crowd that asks again": {"code": "sleep 0.5"},
}


def measure(service: Service, seconds: float) -> list[dict[str, Any]]:
    """A row for each case, under the service's defaults."""
    service.up()
    return [_beside(service, name, fields, seconds) for name, fields in CASES.items()]


def _beside(service: Service, name: str, fields: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
    greedy = _Greedy(service, fields)
    greedy.start()
    try:
        hellos, client = Samples(), service.client()
        body = programs.body(LANGUAGE, programs.HELLO[LANGUAGE])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            paced(hellos, 1, HELLO_GAP_S, lambda: client.run(body))
        client.close()
    finally:
        greedy.end()
    service.settle()
    return {
        "beside": name,
        "p50_ms": hellos.ms(0.5),
        "p99_ms": hellos.ms(0.99),
        "errors": hellos.errors,
        "refused": greedy.refused,
    }


class _Greedy:
    """Another key that asks for all it can get: in the background until it is refused, or by a crowd of clients."""

    def __init__(self, service: Service, fields: dict[str, Any] | None) -> None:
        self._service = service
        self._fields = fields
        self._stop = threading.Event()
        self._lock = threading.Lock()
        crowd = 0 if fields is None else 1 if fields.get("background") else CROWD
        self._threads = [threading.Thread(target=self._ask) for _ in range(crowd)]
        self._runs: list[str] = []
        self.refused = 0

    def start(self) -> None:
        """Begin, and wait until there is no more to be had."""
        for thread in self._threads:
            thread.start()
        if self._threads:
            time.sleep(FILLED_S)

    def _ask(self) -> None:
        assert self._fields is not None
        client = self._service.client(OTHER_TOKEN)
        body = programs.body(LANGUAGE, **self._fields)
        in_background = self._fields.get("background")
        while not self._stop.is_set():
            try:
                run = json.loads(client.post_any("/v1/runs", body))
                self._runs.append(run["id"])
            except FAILURES:
                with self._lock:
                    self.refused += 1
                if in_background:
                    break
                self._stop.wait(REFUSED_PAUSE_S)
        client.close()

    def end(self) -> None:
        """Ask no more, and cancel what sleeps in the background."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._fields is not None and self._fields.get("background"):
            client = self._service.client(OTHER_TOKEN)
            for run_id in reversed(self._runs):
                client.post_any(f"/v1/runs/{run_id}/cancel", b"")
            client.close()


def table(rows: list[dict[str, Any]]) -> Table:
    """One row a case."""
    shown = Table(
        f"A {LANGUAGE} hello of one key while another takes all that it can get",
        ("the other key runs", "p50 / p99 ms", "of nothing beside", "errors"),
    )
    for row in rows:
        of_nothing = ratio(row["p50_ms"], rows[0]["p50_ms"])
        shown.rows.append((row["beside"], f"{row['p50_ms']} / {row['p99_ms']}", of_nothing, row["errors"]))
    return shown
