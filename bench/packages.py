"""What a layer of packages that is there already adds to a warm run, and how long one takes to be made.

The package is a wheel that the tests' registry serves, so that no registry of others is measured. Runs without
it and with it alternate in blocks, with an idle time before each run. The CPU is that of api, worker and sandboxes,
from the beginning of a block until the next sandbox waits: so it has the making of one sandbox for each run.
"""

from __future__ import annotations

import importlib
import json
import re
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import programs
from bench.clocks import MS, cpu_ns, group_cpu_ns
from bench.report import Table
from bench.sampling import Samples, Step, paced
from bench.sessions import GAP_MS, call_step

if TYPE_CHECKING:
    from bench.service import Service

#: The registry of the tests: only a checkout has it.
REGISTRY = "tests.support.registries"
#: At most so many milliseconds more for a run with a layer that is there, and so many of CPU.
MORE_MS = 3.0
MORE_CPU_MS = 0.5
BLOCK = 10
WARM_UP = 3
MISSES = re.compile(r'^runyard_pool_misses_total\{language="python"\} (\S+)$', re.MULTILINE)


def measure(service: Service, count: int) -> dict[str, Any]:
    """Return the p50 of a run without packages and with them, in ms, and its CPU. The service is restarted."""
    registries = importlib.import_module(REGISTRY)
    with registries.package_registry() as registry:
        registry.pip(registries.wheel("tiny", "1.0", {"tiny.py": "x = 1\n"}))
        # A template that is replaced meanwhile would be counted with the runs.
        service.up(PACKAGES="any", PYPI_URL=registry.pypi_url, TEMPLATE_RUNS="100000", TEMPLATE_MINUTES="1000")
        client = service.client()
        try:
            plain = {"language": "python", "code": programs.HELLO["python"]}
            packed = plain | {"packages": ["tiny==1.0"]}
            began = time.monotonic()
            first = json.loads(client.post_any("/v1/runs", json.dumps(packed).encode()))
            made_s = time.monotonic() - began
            if first["status"] != "succeeded":
                raise RuntimeError(f"the run with a package: {first['stderr'][-300:]}")
            steps: dict[str, Step] = {
                "plain": call_step(client, "POST", "/v1/runs", plain, b'"2\\n"'),
                "packed": call_step(client, "POST", "/v1/runs", packed, b'"2\\n"'),
            }
            for step in steps.values():
                paced(Samples(), WARM_UP, GAP_MS / 1000, step)
            misses = _misses(service)
            found, cpu = _alternated(service, steps, -(-count // BLOCK))
            misses = _misses(service) - misses
        finally:
            client.close()
    plain_ms, packed_ms = found["plain"].ms(0.5), found["packed"].ms(0.5)
    if plain_ms is None or packed_ms is None:
        raise RuntimeError("no run has succeeded")
    more_ms = round(packed_ms - plain_ms, 2)
    # Of neighbouring blocks, as others have the machine now more and now less.
    pairs = zip(cpu["plain"], cpu["packed"], strict=True)
    more_cpu_ms = round(median(packed - plain for plain, packed in pairs), 2)
    return {
        "plain_p50_ms": plain_ms,
        "packed_p50_ms": packed_ms,
        "errors": found["plain"].errors + found["packed"].errors,
        "more_ms": more_ms,
        "ratio": round(packed_ms / plain_ms, 2),
        "plain_cpu_ms": round(median(cpu["plain"]), 2),
        "packed_cpu_ms": round(median(cpu["packed"]), 2),
        "more_cpu_ms": more_cpu_ms,
        "misses": misses,
        "made_s": round(made_s, 2),
        "within": more_ms <= MORE_MS and more_cpu_ms <= MORE_CPU_MS,
    }


def _alternated(
    service: Service, steps: dict[str, Step], blocks: int
) -> tuple[dict[str, Samples], dict[str, list[float]]]:
    """Return the samples of each step, and the milliseconds of CPU of one call, block by block."""
    found = {name: Samples() for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(blocks):
        for name, step in steps.items():
            service.settle()
            before = _cpu_ns(service)
            paced(found[name], BLOCK, GAP_MS / 1000, step)
            service.settle()
            cpu[name].append((_cpu_ns(service) - before) / BLOCK / MS)
    return found, cpu


def _cpu_ns(service: Service) -> int:
    """Return the CPU of api, worker and all sandboxes so far, with those that are gone."""
    pids = service.pids()
    return cpu_ns(pids["api"]) + cpu_ns(pids["worker"]) + group_cpu_ns(service.group("cpuacct"))


def _misses(service: Service) -> int:
    """Return the runs so far for which no sandbox waited."""
    found = MISSES.search(service.dispatcher.metrics())
    return int(float(found[1])) if found else 0


def tables(found: dict[str, Any]) -> list[Table]:
    """Show the times and the CPU."""
    bounds = f"bounds: {MORE_MS:g} ms more, and {MORE_CPU_MS:g} ms of CPU"
    table = Table(
        f"A run of python with a layer that is there ({bounds})",
        ("", "without", "with", "more", "ratio"),
    )
    table.rows.append(("p50, ms", found["plain_p50_ms"], found["packed_p50_ms"], found["more_ms"], found["ratio"]))
    cpu = round(found["packed_cpu_ms"] / found["plain_cpu_ms"], 2)
    table.rows.append(("CPU, ms", found["plain_cpu_ms"], found["packed_cpu_ms"], found["more_cpu_ms"], cpu))
    about = Table("… and about it", ("made in s", "runs for which none waited", "errors"))
    about.rows.append((found["made_s"], found["misses"], found["errors"]))
    return [table, about]
