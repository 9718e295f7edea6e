"""Runs a second: clients without a pause, against as many loops of bare starts and of `docker run`."""

from __future__ import annotations

from typing import Any

from bench import bare, programs
from bench.dockerd import Docker
from bench.report import Table
from bench.sampling import Rate, Step, ratio, sustained
from bench.service import Service

CLIENTS = (1, 8, 64)


def measure(service: Service, seconds: float, docker: Docker | None) -> list[dict[str, Any]]:
    """A row for each number of clients, each with its own yardstick taken just before."""
    rows = []
    for clients in CLIENTS:
        yardstick = sustained(clients, seconds / 2, lambda: lambda: bare.start(programs.BARE))
        containers = sustained(clients, seconds, docker.step) if docker else None
        service.settle()
        ours = sustained(clients, seconds, lambda: _step(service))
        service.settle()
        rows.append(_row(clients, ours, yardstick, containers))
    return rows


def _step(service: Service) -> Step:
    client = service.client()
    request = programs.body("python", programs.HELLO["python"])
    return lambda: client.run(request)


def _row(clients: int, ours: Rate, yardstick: Rate, containers: Rate | None) -> dict[str, Any]:
    return {
        "clients": clients,
        "runs_per_s": ours.per_s,
        "p50_ms": ours.samples.ms(0.5),
        "p99_ms": ours.samples.ms(0.99),
        "errors": ours.samples.errors,
        "bare_per_s": yardstick.per_s,
        "ratio": ratio(ours.per_s, yardstick.per_s),
        "docker_per_s": containers.per_s if containers else None,
        "docker_errors": containers.samples.errors if containers else None,
        "times_docker": ratio(ours.per_s, containers.per_s, 1) if containers else None,
    }


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a number of clients."""
    head = ("clients", "runs/s", "p50 ms", "p99 ms", "bare/s", "of bare", "docker run/s", "times docker", "errors")
    names = ("clients", "runs_per_s", "p50_ms", "p99_ms", "bare_per_s", "ratio", "docker_per_s", "times_docker")
    shown = Table("Python runs a second, clients without a pause", head)
    for row in rows:
        errors = row["errors"] + (row["docker_errors"] or 0)
        shown.rows.append((*(row[name] for name in names), errors))
    return [shown]
