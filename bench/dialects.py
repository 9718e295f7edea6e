"""The CPU that each dialect adds to a run, in api: its way and that of `/v1/runs` in turns, by api's own clock.

Both ways run the same program, so that all but the translation is the same. Every call is measured by itself, with
a pause before the clock is read for what api does behind the answer; the medians are compared, since other threads
of api work now and then.
"""

from __future__ import annotations

import json
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
OWN = "/v1/runs"
WAYS: dict[str, dict[str, Any]] = {
    OWN: {"language": "python", "code": CODE},
    "/api/v2/execute": {"language": "python", "version": "3", "files": [{"name": "main.py", "content": CODE}]},
    "/api": {"language": "python", "source_code": CODE},
    "/v1/execute": {"runtime": "python", "code": CODE},
    "/api/execute": {"language": "python", "code": CODE},
    # A stream: compare it with one of `/v1/runs`.
    "/api/code/run": {"lang": "python", "code": CODE},
}


def measure(service: Service, calls: int) -> list[dict[str, Any]]:
    """A row for each way: the median of api's CPU, the difference to `/v1/runs`, and whether it may be so."""
    client = service.client()
    bodies = {path: json.dumps(body).encode() for path, body in WAYS.items()}
    for _ in range(WARM_UP):
        for path, body in bodies.items():
            client.call("POST", path, body)
    pids = service.pids()["api"]
    spent: dict[str, list[int]] = {path: [] for path in bodies}
    for _ in range(calls):
        for path, body in bodies.items():
            time.sleep(GAP_S)
            before = cpu_ns(pids)
            client.call("POST", path, body)
            time.sleep(GAP_S)
            spent[path].append(cpu_ns(pids) - before)
    client.close()
    medians = {path: statistics.median(found) / MS for path, found in spent.items()}
    return [
        {
            "path": path,
            "calls": calls,
            "api_ms": round(found, 2),
            "more_ms": round(found - medians[OWN], 2),
            "within": found - medians[OWN] <= MOST_MS,
        }
        for path, found in medians.items()
    ]


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a way."""
    shown = Table(f"CPU of api for a run by dialect, at most {MOST_MS} ms more", ("path", "ms", "more", "within"))
    for row in rows:
        shown.rows.append((row["path"], row["api_ms"], row["more_ms"], "yes" if row["within"] else "no"))
    return [shown]
