"""Where the CPU of a python run goes, by step, and none of the steps is touched to find out.

Processes have CPU clocks and control groups count what ran in them, so the parts are read from outside over many
runs: api and worker by their clocks; what is in the sandboxes' groups by the groups' parent, which remembers the
dead ones. A warm sandbox's group holds its making only: what of that no living process of the group used, crun
did. What a template does is counted in its own group, beside theirs. The hop is found by giving the same jobs to
the worker directly, as api does, and reading this process's own clock. A program tells its own CPU up to its last
line; the agent has the rest of a run. What the machine spent beside all of these, idle load and client subtracted,
is the kernel's: taking sandboxes apart, mostly. That part is given only if nothing else to speak of ran on the
machine.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from bench import programs
from bench.clients import Client
from bench.clocks import MS, busy_ns, cpu_ns, group_cpu_ns, group_pids
from bench.layers import has_libraries, language_of
from bench.report import Table
from bench.service import Service
from protocol.job import Job

GAP_S = 0.03
TRIES = 4
IDLE_S = 3.0
#: Beyond a twentieth of one processor others are at work, and what they will do meanwhile cannot be subtracted.
IDLE_MAX_NS_PER_S = 0.05e9
LANGUAGE = "python"
CODE = "import time; print(1+1); print(time.process_time_ns())"


@dataclass(frozen=True, slots=True)
class _Reading:
    """CPU nanoseconds so far, by who used them."""

    at_s: float
    machine: int
    client: int
    api: int
    worker: int
    sandboxes: int
    templates: dict[str, int]

    @classmethod
    def now(cls, service: Service) -> _Reading:
        pids = service.pids()
        return cls(
            time.monotonic(),
            busy_ns(),
            time.process_time_ns(),
            cpu_ns(pids["api"]),
            cpu_ns(pids["worker"]),
            group_cpu_ns(service.group("cpuacct")),
            {group.name: group_cpu_ns(group) for group in service.template_groups("cpuacct")},
        )


def measure(service: Service, count: int) -> dict[str, Any]:
    """Milliseconds of CPU a run by step; they sum up to `total_ms`."""
    client = service.client()
    _runs(client, 5)
    service.settle()
    idle = _idle_rate()
    before, programs_ns, after = _read_around(service, client, count)
    crun, boot = _making(service)  # of those that were made in the meantime
    client.close()
    hop = _hop(service, count)
    api, worker, sandboxes = (
        (getattr(after, part) - getattr(before, part)) / count for part in ("api", "worker", "sandboxes")
    )
    templates = (sum(after.templates.values()) - sum(before.templates.values())) / count
    machine = (after.machine - before.machine - idle * (after.at_s - before.at_s)) / count
    quiet = idle < IDLE_MAX_NS_PER_S
    inside = sandboxes - templates - crun - boot
    program = programs_ns / count
    ours = (after.client - before.client) / count
    steps = {
        "http": api - hop,
        "hop": hop,
        "engine": worker,
        "crun": crun,
        "template": templates,
        "boot": boot,
        "agent": inside - program,
        "program": program,
        "kernel": max(0.0, machine - ours - api - worker - sandboxes) if quiet else None,
    }
    found = {name: None if ns is None else round(ns / MS, 2) for name, ns in steps.items()}
    return {
        "runs": count,
        "steps_ms": found,
        "total_ms": round(sum(ms for ms in found.values() if ms is not None), 1),
        "machine_ms": round((machine - ours) / MS, 1) if quiet else None,
    }


def _read_around(service: Service, client: Client, count: int) -> tuple[_Reading, int, _Reading]:
    """What the clocks show before and after so many runs, and what the programs say.

    Read again if a template was replaced: the clock of one that is gone went with it.
    """
    for _ in range(TRIES):
        before = _Reading.now(service)
        programs_ns = _runs(client, count)
        service.settle()
        after = _Reading.now(service)
        if before.templates.keys() == after.templates.keys():
            return before, programs_ns, after
    raise RuntimeError("a template was replaced whenever the clocks were read")


def _runs(client: Client, count: int) -> int:
    """Paced runs; the CPU nanoseconds that the programs say they used, in all."""
    told = 0
    request = programs.body(LANGUAGE, CODE)
    for _ in range(count):
        time.sleep(GAP_S)
        run = json.loads(client.call("POST", "/v1/runs", request))
        told += int(run["stdout"].split()[1])
    return told


def _making(service: Service) -> tuple[float, float]:
    """What making a warm sandbox took: by processes that have ended (crun), and by those that wait in it."""
    crun, boot = [], []
    for group in service.sandbox_groups("cpuacct"):
        pids = group_pids(group)
        if language_of(pids, service) != LANGUAGE or has_libraries(pids):
            continue
        living = cpu_ns(pids)
        boot.append(living)
        crun.append(group_cpu_ns(group) - living)
    if not boot:
        raise RuntimeError(f"no warm {LANGUAGE} sandbox was found")
    return sum(crun) / len(crun), sum(boot) / len(boot)


def _idle_rate() -> float:
    """CPU nanoseconds a second that this machine uses while nothing is asked of the service."""
    began, before = time.monotonic(), busy_ns()
    time.sleep(IDLE_S)
    return (busy_ns() - before) / (time.monotonic() - began)


def _hop(service: Service, count: int) -> float:
    """CPU nanoseconds of a job's way to the worker and back, on api's side of it."""
    spent = 0
    for number in range(count):
        job = Job(run_id=f"run_bench{number}", language=LANGUAGE, code=CODE, key="bench")
        time.sleep(GAP_S)
        before = time.process_time_ns()
        service.dispatcher.run(job)
        spent += time.process_time_ns() - before
    service.settle()
    return spent / count


STEPS = {
    "http": "api: HTTP, JSON, the record",
    "hop": "api: to the worker and back",
    "engine": "worker: slot, group, mounts, conversation",
    "crun": "crun: making the next sandbox, where it is a container",
    "template": "template: forking the next sandbox",
    "boot": "the next sandbox, until it waits",
    "agent": "agent: fork, pipes, finalisation, exit",
    "program": "the program, by its own clock",
    "kernel": "the kernel, outside all of these",
}


def tables(found: dict[str, Any]) -> list[Table]:
    """One row a step."""
    total = found["total_ms"]
    shown = Table(f"CPU of a python run by step, refilling included: {total} ms", ("", "ms", "share"))
    for name, said in STEPS.items():
        ms = found["steps_ms"].get(name)
        shown.rows.append((said, ms, None if ms is None else f"{ms / total:.0%}"))
    return [shown]
