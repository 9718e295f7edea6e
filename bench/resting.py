"""Many idle sessions, frozen: the memory of each, the processor time of all, and what they cost a single-use run.

A session has had one run, so that its kernel is there. Memory is the fall of MemAvailable: templates, which all of
them share, are there before.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.clocks import cpu_ns, group_cpu_ns
from bench.report import Table
from bench.sampling import Samples, paced, ratio

if TYPE_CHECKING:
    from bench.clients import Client
    from bench.service import Service

NUMBER = 300
USED = 60
SESSION = b'{"language":"python","freeze_after_s":1,"idle_timeout_s":3600}'
RUN = b'{"language":"python","code":"print(1)"}'
GAP_S, IDLE_S = 0.1, 10.0
FROZEN_WITHIN_S = 120.0
#: Seconds after which the api has recorded what was used before.
SETTLED_S = 15.0
#: Of the contract: MiB each, percent of a core together, and a single-use run beside them in runs without them.
MOST_MB, MOST_PERCENT, MOST_RATIO = 15.0, 1.0, 1.2


def measure(service: Service, count: int) -> list[dict[str, Any]]:
    """Return a row for each bound; `count` runs are timed without the sessions, and as many beside them."""
    client = service.client()
    made: list[str] = []
    alone, beside, used = Samples(), Samples(), Samples()
    try:
        _prepare(client)
        service.settle()
        paced(alone, count, GAP_S, lambda: client.run(RUN))
        service.settle()
        without = _percent(service)
        before_mb = _available_mb()
        made.extend(_used_once(client) for _ in range(NUMBER))
        _wait_until_frozen(client)
        each_mb = round((before_mb - _available_mb()) / NUMBER, 1)
        percent = round(_percent(service) - without, 2)
        paced(beside, count, GAP_S, lambda: client.run(RUN))
        for name in made[:: NUMBER // USED]:
            used.take(partial(_timed_use, client, name))
    finally:
        for name in made:
            client.call("DELETE", f"/v1/sessions/{name}")
        client.close()
    slower = ratio(beside.ms(0.5), alone.ms(0.5))
    errors = alone.errors + beside.errors + used.errors
    return [
        _row("memory of each, MiB", each_mb, MOST_MB),
        _row("processor time together, % of a core", percent, MOST_PERCENT),
        _row("single-use run beside them, in runs without", slower, MOST_RATIO),
        _row(f"of {USED} used after that, or runs: refused or failed", errors, 0),
        _row("first run after a rest, p50 ms", used.ms(0.5), None),
    ]


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a bound."""
    shown = Table(f"{NUMBER} idle python sessions, frozen", ("", "measured", "bound", "within"))
    for one in rows:
        within = {None: "–", True: "yes", False: "no"}[one["within"]]
        shown.rows.append((one["what"], one["measured"], "–" if one["bound"] is None else one["bound"], within))
    return [shown]


def _row(what: str, measured: float | None, bound: float | None) -> dict[str, Any]:
    within = None if bound is None or measured is None else measured <= bound
    return {"what": what, "measured": measured, "bound": bound, "within": within}


def _prepare(client: Client) -> None:
    """Have everything made that is made once: templates of kernels, threads, connections."""
    for _ in range(2):
        client.call("DELETE", f"/v1/sessions/{_used_once(client)}")


def _used_once(client: Client) -> str:
    name = str(json.loads(client.post_any("/v1/sessions", SESSION))["id"])
    _expect(client.post_any(f"/v1/sessions/{name}/runs", b'{"code":"x = 20"}'), b'"succeeded"')
    return name


def _timed_use(client: Client, name: str) -> float:
    began = time.perf_counter()
    raw = client.post_any(f"/v1/sessions/{name}/runs", b'{"code":"x + 1"}')
    took = time.perf_counter() - began
    _expect(raw, b'"text":"21"')
    return took


def _expect(raw: bytes, part: bytes) -> None:
    if part not in raw:
        raise RuntimeError(f"a run in a session: {raw[:200]!r}")


def _wait_until_frozen(client: Client) -> None:
    deadline = time.monotonic() + FROZEN_WITHIN_S
    while (found := _frozen(client)) < NUMBER:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {NUMBER} sessions were frozen within {FROZEN_WITHIN_S:.0f} s")
        time.sleep(0.5)


def _frozen(client: Client) -> int:
    found, after = 0, ""
    while True:
        page = client.get(f"/v1/sessions?status=frozen&limit=100{after}")
        found += len(page["data"])
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def _percent(service: Service) -> float:
    """Return the percent of a core that the service and all its sandboxes use."""
    group = service.group("cpuacct")
    pids = [pid for part in service.pids().values() for pid in part]
    time.sleep(SETTLED_S)
    before, began = cpu_ns(pids) + group_cpu_ns(group), time.monotonic()
    time.sleep(IDLE_S)
    used = cpu_ns(pids) + group_cpu_ns(group) - before
    return round(used / (time.monotonic() - began) / 1e9 * 100, 2)


def _available_mb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:"))
