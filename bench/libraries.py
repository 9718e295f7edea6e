"""What heavy libraries cost where they are imported ahead, and how much many sandboxes at once hold.

A program that imports pandas, and one that plots, from the request to the picture's last byte through its signed
link; then sleeping programs all at the same time, by what is charged to each sandbox's control group and to the
templates that they share.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from typing import Any

from bench import bare, programs
from bench.clients import Client
from bench.clocks import MIB, group_memory_bytes
from bench.report import Table
from bench.sampling import FAILURES, alternated, ratio
from bench.service import Service

GAP_MS = 100
MEMORY = {"memory_mb": 256}
PANDAS = "import pandas as pd; print(pd.Series(range(1000)).sum())"
PLOT = "import matplotlib.pyplot as plt; plt.plot([1, 4, 9]); plt.savefig('outputs/plot.png')"
SLEEPERS = 64
NAP_S = 6
SETTLED_S = 3
FETCH_TIMEOUT_S = 30


def measure(service: Service, count: int) -> dict[str, Any]:
    """`latency`: rows as ratios to a bare start; `density`: memory of sandboxes that sleep at the same time."""
    return {"latency": _latency(service, count), "density": _density(service)}


def _latency(service: Service, count: int) -> list[dict[str, Any]]:
    client = service.client()
    pandas = programs.body("python", PANDAS, limits=MEMORY)
    plot = programs.body("python", PLOT, limits=MEMORY)
    steps = {
        "bare start": lambda: bare.start(programs.BARE),
        "pandas": lambda: client.run(pandas),
        "plot, fetched by its link": lambda: _plotted(client, plot),
    }
    found = alternated(steps, count, GAP_MS / 1000, service.settle)
    client.close()
    yardstick = found["bare start"].ms(0.5)
    return [
        {
            "what": name,
            "p50_ms": samples.ms(0.5),
            "p99_ms": samples.ms(0.99),
            "ratio": ratio(samples.ms(0.5), yardstick),
            "errors": samples.errors,
        }
        for name, samples in found.items()
    ]


def _plotted(client: Client, request: bytes) -> float:
    began = time.perf_counter()
    run = json.loads(client.call("POST", "/v1/runs", request))
    with urllib.request.urlopen(run["artifacts"][0]["url"], timeout=FETCH_TIMEOUT_S) as picture:
        if not picture.read().startswith(b"\x89PNG"):
            raise RuntimeError("what the link leads to is no picture")
    return time.perf_counter() - began


def _density(service: Service) -> dict[str, Any]:
    """MiB of each of many sandboxes whose programs sleep, and of the templates; the service is restarted for it."""
    # One key has them all, and is not given what is reserved for others.
    service.up(MAX_RUNS=str(2 * SLEEPERS), MEMORY_BUDGET_MB=str(1024 * SLEEPERS), WARM_POOL="python=4")
    failed: list[str] = []

    def sleep() -> None:
        client = service.client()
        try:
            client.run(programs.body("python", f"import time; time.sleep({NAP_S})", limits={"memory_mb": 64}))
        except FAILURES as e:
            failed.append(str(e))
        finally:
            client.close()

    threads = [threading.Thread(target=sleep) for _ in range(SLEEPERS)]
    for thread in threads:
        thread.start()
    time.sleep(SETTLED_S)
    running = service.dispatcher.status()["queue"]["running"]
    sandboxes = [group_memory_bytes(group) / MIB for group in service.sandbox_groups("memory")]
    templates = [group_memory_bytes(group) / MIB for group in service.template_groups("memory")]
    for thread in threads:
        thread.join()
    service.up()
    return {
        "running": running,
        "sandboxes": len(sandboxes),
        "each_mb": round(sum(sandboxes) / len(sandboxes), 1),
        "most_mb": round(max(sandboxes), 1),
        "templates_mb": round(sum(templates), 1),
        "errors": len(failed),
    }


def tables(found: dict[str, Any]) -> list[Table]:
    """Two: how long, and how much."""
    latency = Table(
        f"Programs that import a library, over HTTP, {GAP_MS} ms idle before each",
        ("", "p50 ms", "p99 ms", "of bare", "errors"),
    )
    latency.rows.extend(
        (row["what"], row["p50_ms"], row["p99_ms"], row["ratio"], row["errors"]) for row in found["latency"]
    )
    density = Table(
        "Memory with sleeping python programs at the same time, MiB",
        ("running", "sandboxes", "each, mean", "most", "templates together", "errors"),
    )
    row = found["density"]
    density.rows.append(
        (row["running"], row["sandboxes"], row["each_mb"], row["most_mb"], row["templates_mb"], row["errors"])
    )
    return [latency, density]
