"""`make bench`: one command, its tables, everything a ratio taken in one run.

Brings up a service of its own, measures it and takes it down again. A whole run writes bench/results.json, the
tables in docs/performance.md and the picture beside them; a part of it (`make bench BENCH="latency stream"`, or
`BENCH=quick` for all of it, shorter) is only shown.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import (
    amqp,
    cpu,
    dialects,
    dockerd,
    engines,
    files,
    functions,
    kernels,
    latency,
    libraries,
    memory,
    network,
    packages,
    queueing,
    report,
    sessions,
    stream,
    tenants,
    throughput,
)
from bench.dockerd import Docker
from bench.plot import draw
from bench.report import Table
from bench.sampling import FAILURES
from bench.service import Service

QUICK = "quick"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: calls for each latency figure, lines of a stream, seconds of each rate."""

    calls: int
    lines: int
    seconds: float


WHOLE, SHORT = Effort(calls=100, lines=300, seconds=10), Effort(calls=20, lines=50, seconds=3)


@dataclass(frozen=True, slots=True)
class Subject:
    """What can be measured by itself."""

    measure: Callable[[Service, Effort, Docker | None], Any]
    tables: Callable[[Any], list[Table]]


#: In the order of measuring. The last ones restart the service with other settings.
SUBJECTS = {
    "latency": Subject(lambda service, effort, _: latency.measure(service, effort.calls), latency.tables),
    "throughput": Subject(
        lambda service, effort, docker: throughput.measure(service, effort.seconds, docker), throughput.tables
    ),
    "stream": Subject(lambda service, effort, _: stream.measure(service, effort.lines), stream.tables),
    "cpu": Subject(lambda service, effort, _: cpu.measure(service, effort.calls * 2), cpu.tables),
    "files": Subject(lambda service, effort, _: files.measure(service, effort.calls), files.tables),
    "libraries": Subject(
        lambda service, effort, _: libraries.measure(service, effort.calls // 2), libraries.tables
    ),
    "memory": Subject(lambda service, _, __: memory.slots(service), memory.slot_tables),
    "idle": Subject(lambda service, effort, _: memory.idle(service, effort.seconds), memory.idle_tables),
    "engines": Subject(
        lambda service, effort, docker: engines.measure(service, effort.calls // 4, docker), engines.tables
    ),
    "queue": Subject(lambda service, effort, _: queueing.measure(service, effort.seconds), queueing.tables),
}
#: Measured only where it is named: whether a bound holds, and no figure of the documents.
BY_NAME = {
    "functions": Subject(lambda service, effort, _: functions.measure(service, effort.calls * 2), functions.tables),
    "network": Subject(lambda service, effort, _: network.measure(service, effort.calls * 2), network.tables),
    "packages": Subject(lambda service, effort, _: packages.measure(service, effort.calls * 2), packages.tables),
    "kernels": Subject(lambda service, effort, _: kernels.measure(service, effort.calls), kernels.tables),
    "sessions": Subject(lambda service, effort, _: sessions.measure(service, effort.calls * 2), sessions.tables),
    "dialects": Subject(lambda service, effort, _: dialects.measure(service, effort.calls * 2), dialects.tables),
    "tenants": Subject(lambda service, effort, _: tenants.measure(service, effort.calls), tenants.tables),
    "amqp": Subject(
        lambda service, effort, _: amqp.measure(service, effort.calls // 2, effort.seconds), amqp.tables
    ),
}


def main() -> int:
    """Measure, show; write, if it was all of it."""
    options = _options()
    known = SUBJECTS | BY_NAME
    chosen = [name for name in known if name in options.subjects] or list(SUBJECTS)
    effort = SHORT if QUICK in options.subjects else WHOLE
    whole = effort is WHOLE and chosen == list(SUBJECTS)
    results: dict[str, Any] = _circumstances()
    tables: dict[str, list[Table]] = {}
    service = Service(Path(options.state), options.port)
    with ExitStack() as stack:
        stack.callback(service.down)
        service.up()
        docker = _docker(service, stack) if options.docker and {"throughput", "engines"} & set(chosen) else None
        for name in chosen:
            began = time.monotonic()
            try:
                results[name] = known[name].measure(service, effort, docker)
            except FAILURES as e:
                _say(f"{name} could not be measured: {e}")
                continue
            tables[name] = known[name].tables(results[name])
            print("\n" + "\n".join(table.text() for table in tables[name]), flush=True)
            _say(f"{name}: {time.monotonic() - began:.0f} s")
    complete = len(tables) == len(chosen)
    if whole and complete:
        results["load_average_after"] = round(os.getloadavg()[0], 1)
        report.write(results, tables)
        draw(results)
    return 1 if _failed(results) or not complete else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "subjects", nargs="*", choices=[[], QUICK, *SUBJECTS, *BY_NAME], metavar="SUBJECT", default=[]
    )
    parser.add_argument("--docker", action="store_true", help="compare with docker run: starts a daemon of its own")
    parser.add_argument("--state", default=os.environ.get("RUNYARD_BENCH_STATE", "/var/lib/runyard-bench"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("RUNYARD_BENCH_PORT", "18090")))
    return parser.parse_args()


def _docker(service: Service, stack: ExitStack) -> Docker | None:
    image = service.image("python")
    assert image is not None
    try:
        return stack.enter_context(dockerd.running(image.layers))
    except RuntimeError as e:
        _say(f"docker run is not measured: {e}")
        return None


def _circumstances() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}",
        "kernel": platform.release().partition("-")[0],
        "load_average_before": round(os.getloadavg()[0], 1),
    }


def _failed(results: dict[str, Any]) -> bool:
    """Whether a bound was broken."""
    return any(
        row["within"] is False
        for part in ("memory", "tenants", "dialects", "functions")
        for row in results.get(part, [])
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
