"""Clients that reuse their connection, and clocks."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Client:
    """One kept connection to the service."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def run(self, body: bytes) -> tuple[float, dict]:
        """Seconds and the run object. Raises RuntimeError for anything but 200."""
        began = time.perf_counter()
        self._connection.request("POST", "/v1/runs", body, self._headers)
        response = self._connection.getresponse()
        raw = response.read()
        took = time.perf_counter() - began
        if response.status != 200:
            raise RuntimeError(f"{response.status} {raw[:200]!r}")
        return took, json.loads(raw)

    def close(self) -> None:
        self._connection.close()


def percentile(samples: list[float], share: float) -> float:
    """The value below which `share` of the samples lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def bare_start(argv: list[str]) -> float:
    """Seconds from starting a program to having its output: what the service is compared with."""
    began = time.perf_counter()
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, close_fds=False)
    return time.perf_counter() - began


def paced(count: int, gap_s: float, step) -> list[float]:
    """`count` calls of `step` with idle time between; the seconds each says it took."""
    samples = []
    for _ in range(count):
        if gap_s:
            time.sleep(gap_s)
        samples.append(step())
    return samples


def sustained(workers: int, seconds: float, step_of) -> tuple[float, int]:
    """Calls a second and errors of `workers` loops, each over its own `step_of()`, for a time."""
    counts, errors = [0] * workers, [0] * workers
    end = time.perf_counter() + seconds

    def loop(number: int) -> None:
        step = step_of()
        while time.perf_counter() < end:
            try:
                step()
                counts[number] += 1
            except (RuntimeError, OSError):
                errors[number] += 1

    threads = [threading.Thread(target=loop, args=(n,)) for n in range(workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began), sum(errors)


def machine_busy_s() -> float:
    """Seconds of CPU that the whole machine has used (everything but idle and waiting for disks)."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) * TICK_S


def service_pids(run_dir: Path) -> list[int]:
    """The supervisor and everything beneath it."""
    root = int((run_dir / "supervisor.pid").read_text())
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, rest = [], [root]
    while rest:
        pid = rest.pop()
        found.append(pid)
        rest += children.get(pid, [])
    return found


def cpu_s(pids: list[int]) -> float:
    """CPU seconds that these processes have used themselves."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S
