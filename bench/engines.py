"""How long a warm run takes a client on each engine and runtime: a row for each, for every language.

The service is restarted on each. Docker's two need a daemon: they are measured with `--docker`.
"""

from __future__ import annotations

import sys
from typing import Any

from bench import bare, programs
from bench.dockerd import Docker
from bench.report import Table
from bench.sampling import FAILURES, alternated, ratio
from bench.service import Service
from dispatch import WorkerUnavailable
from sandbox.engines.runtimes import find_runtime

GAP_MS = 100
#: Engine, runtime, and how many sandboxes wait: what a client that pauses needs, and no more to start.
COLUMNS = (("oci", "crun"), ("oci", "runc"), ("oci", "runsc"), ("docker", "runc"), ("docker", "runsc"))
QUEUE_SIZE = 2


def measure(service: Service, count: int, docker: Docker | None) -> list[dict[str, Any]]:
    """A row for each language on each column that there is here; `bare` is the yardstick's, on each anew."""
    rows: list[dict[str, Any]] = []
    sizes = _pool_sizes(service)
    for engine, runtime in COLUMNS:
        if find_runtime(runtime) is None or (engine == "docker" and docker is None):
            continue
        settings = {"ENGINE": engine, "RUNTIME": runtime, "WARM_POOL": sizes}
        if docker is not None:
            settings["DOCKER_HOST"] = docker.host
        try:
            service.up(**settings)
            rows += _column(service, f"{engine}/{runtime}", count)
        except (*FAILURES, WorkerUnavailable, SystemExit) as e:
            print(f"{engine}/{runtime} could not be measured: {e}", file=sys.stderr, flush=True)
    service.up()
    return rows


def _pool_sizes(service: Service) -> str:
    pool = service.dispatcher.status()["pool"]
    plain = [language for language, queue in pool.items() if queue["size"] and "/" not in language]
    return ",".join(f"{language}={QUEUE_SIZE}" for language in plain)


def _column(service: Service, column: str, count: int) -> list[dict[str, Any]]:
    """Every language `count` times after an idle gap, in blocks that alternate with the yardstick's."""
    client = service.client()
    steps = {"bare": lambda: bare.start(programs.BARE)}
    for language in service.languages:
        request = programs.body(language["id"], programs.HELLO.get(language["id"], language["example"]))
        steps[language["id"]] = lambda request=request: client.run(request)  # type: ignore[misc]
    found = alternated(steps, count, GAP_MS / 1000, service.settle)
    client.close()
    yardstick = found["bare"].ms(0.5)
    return [
        {
            "column": column,
            "language": name,
            "samples": len(samples.seconds),
            "errors": samples.errors,
            "p50_ms": samples.ms(0.5),
            "p99_ms": samples.ms(0.99),
            "ratio": ratio(samples.ms(0.5), yardstick),
        }
        for name, samples in found.items()
    ]


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row for each language and engine."""
    shown = Table(
        f"Warm run over HTTP by engine and runtime, {GAP_MS} ms idle before each",
        ("", "language", "p50 ms", "p99 ms", "of bare", "errors"),
    )
    for row in rows:
        shown.rows.append(
            (row["column"], row["language"], row["p50_ms"], row["p99_ms"], row["ratio"], row["errors"])
        )
    return [shown]
