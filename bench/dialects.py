"""The CPU that each dialect adds to a run, in api: its way and that of `/v1/runs` in turns, by api's own clock.

Both ways run the same program, so that all but the translation is the same. Every call is measured by itself, with
a pause before the clock is read for what api does behind the answer; the medians are compared, since other threads
of api work now and then.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from typing import Any

from bench.clocks import MS, cpu_ns
from bench.report import Table
from bench.service import Service

GAP_S = 0.03
WARM_UP = 20
#: What a dialect may add.
MOST_MS = 0.3
CODE = "print(1+1)"
OWN, OWN_STREAM = "/v1/runs", "/v1/runs, streamed"
_PISTON = {"language": "python", "version": "3", "files": [{"name": "main.py", "content": CODE}]}
#: By what it is called: the path and body of a way, and the own way that it is compared with.
WAYS: dict[str, tuple[str, dict[str, Any], str]] = {
    OWN: ("/v1/runs", {"language": "python", "code": CODE}, OWN),
    OWN_STREAM: ("/v1/runs", {"language": "python", "code": CODE, "stream": True}, OWN_STREAM),
    "/api/v2/execute": ("/api/v2/execute", _PISTON, OWN),
    "/api": ("/api", {"language": "python", "source_code": CODE}, OWN),
    "/v1/execute": ("/v1/execute", {"runtime": "python", "code": CODE}, OWN),
    "/api/execute": ("/api/execute", {"language": "python", "code": CODE}, OWN),
    "/api/code/run": ("/api/code/run", {"lang": "python", "code": CODE}, OWN_STREAM),
}


def measure(service: Service, calls: int) -> list[dict[str, Any]]:
    """Return a row for each way: the median of api's CPU, the difference to that own way, and if it may be so."""
    client = service.client()
    bodies = {name: (path, json.dumps(body).encode()) for name, (path, body, _) in WAYS.items()}
    for _ in range(WARM_UP):
        for path, body in bodies.values():
            client.call("POST", path, body)
    pids = service.pids()["api"]
    spent: dict[str, list[int]] = {name: [] for name in bodies}
    order = random.Random(1)
    for _ in range(calls):
        # In one order always the same way would pay for what api looks up anew every second.
        for name, (path, body) in order.sample(sorted(bodies.items()), len(bodies)):
            time.sleep(GAP_S)
            before = cpu_ns(pids)
            client.call("POST", path, body)
            time.sleep(GAP_S)
            spent[name].append(cpu_ns(pids) - before)
    client.close()
    medians = {name: statistics.median(found) / MS for name, found in spent.items()}
    rows = []
    for name, found in medians.items():
        more = found - medians[WAYS[name][2]]
        rows.append(
            {
                "path": name,
                "calls": calls,
                "api_ms": round(found, 2),
                "more_ms": round(more, 2),
                "within": more <= MOST_MS,
            }
        )
    return rows


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a way."""
    shown = Table(f"CPU of api for a run by dialect, at most {MOST_MS} ms more", ("path", "ms", "more", "within"))
    for row in rows:
        shown.rows.append((row["path"], row["api_ms"], row["more_ms"], "yes" if row["within"] else "no"))
    return [shown]
