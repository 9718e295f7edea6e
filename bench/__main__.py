"""`make bench`: one table of a running service against a bare interpreter start, all in one run.

The service must be up (`make up`). Results also go to bench/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.clients import (
    Client,
    bare_start,
    cpu_s,
    machine_busy_s,
    paced,
    percentile,
    service_pids,
    sustained,
)

PROGRAMS = {
    "python": b'{"language":"python","code":"print(1+1)"}',
    "node": b'{"language":"node","code":"console.log(1+1)"}',
    "bash": b'{"language":"bash","code":"echo 2"}',
}
BARE = ["/usr/bin/python3", "-I", "-c", "print(1+1)"]
GAPS_MS = (30, 100)


def main() -> None:
    """Measure, print, write."""
    options = _options()
    client = Client(options.host, options.port, options.token)
    results = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.release()}",
        "latency": latency(client, options.count),
        "sustained": throughput(options, options.seconds),
        "cpu_ms_per_python_run": cpu_per_run(client, options.count),
        "idle_percent_of_a_core": idle(Path(options.state_dir) / "run", options.seconds),
    }
    show(results)
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8080")))
    parser.add_argument("--token", default=os.environ.get("RUNYARD_TOKEN", "dev_123"))
    parser.add_argument("--state-dir", default=os.environ.get("STATE_DIR", "/var/lib/runyard"))
    parser.add_argument("--count", type=int, default=100, help="requests for each latency row")
    parser.add_argument("--seconds", type=float, default=10, help="seconds for each sustained row")
    return parser.parse_args()


def latency(client: Client, count: int) -> list[dict]:
    """Each language at each gap, its requests alternating with bare starts at the same gap."""
    rows = []
    for language, body in PROGRAMS.items():
        for _ in range(5):
            client.run(body)
        for gap_ms in GAPS_MS:
            time.sleep(1)  # the pool is full again
            ours: list[float] = []
            bare: list[float] = []
            for _ in range(count // 10):
                ours += paced(10, gap_ms / 1000, lambda body=body: client.run(body)[0])
                bare += paced(10, gap_ms / 1000, lambda: bare_start(BARE))
            rows.append(
                {
                    "language": language,
                    "gap_ms": gap_ms,
                    "p50_ms": round(percentile(ours, 0.5) * 1000, 2),
                    "p99_ms": round(percentile(ours, 0.99) * 1000, 2),
                    "bare_p50_ms": round(percentile(bare, 0.5) * 1000, 2),
                    "ratio": round(percentile(ours, 0.5) / percentile(bare, 0.5), 2),
                }
            )
    return rows


def throughput(options: argparse.Namespace, seconds: float) -> list[dict]:
    """Runs a second with 1 and 8 clients, against as many loops of bare starts."""
    rows = []
    for clients in (1, 8):
        bare, _ = sustained(clients, seconds / 2, lambda: lambda: bare_start(BARE))
        rate, errors = sustained(clients, seconds, lambda: _stepper(options))
        rows.append(
            {
                "clients": clients,
                "runs_per_s": round(rate, 1),
                "bare_per_s": round(bare, 1),
                "ratio": round(rate / bare, 2),
                "errors": errors,
            }
        )
    return rows


def _stepper(options: argparse.Namespace):
    client = Client(options.host, options.port, options.token)
    return lambda: client.run(PROGRAMS["python"])


def cpu_per_run(client: Client, count: int) -> float:
    """CPU of the whole machine per python run, refilling included, less what the machine uses idle."""
    time.sleep(2)
    began, busy = time.monotonic(), machine_busy_s()
    time.sleep(3)
    idle_rate = (machine_busy_s() - busy) / (time.monotonic() - began)
    began, busy = time.monotonic(), machine_busy_s()
    paced(count, 0.03, lambda: client.run(PROGRAMS["python"])[0])
    time.sleep(1.5)  # the last ones are taken apart and made again
    spent = machine_busy_s() - busy - idle_rate * (time.monotonic() - began)
    return round(spent / count * 1000, 1)


def idle(run_dir: Path, seconds: float) -> float | None:
    """CPU of the whole service with a full pool and nothing to do."""
    try:
        pids = service_pids(run_dir)
    except OSError:
        return None
    time.sleep(2)
    before = cpu_s(pids)
    time.sleep(seconds)
    return round((cpu_s(pids) - before) / seconds * 100, 2)


def show(results: dict) -> None:
    print(f"{'language':10}{'gap ms':>8}{'p50 ms':>9}{'p99 ms':>9}{'bare p50':>10}{'ratio':>7}")
    for row in results["latency"]:
        print(
            f"{row['language']:10}{row['gap_ms']:>8}{row['p50_ms']:>9}{row['p99_ms']:>9}"
            f"{row['bare_p50_ms']:>10}{row['ratio']:>7}"
        )
    print(f"\n{'clients':>8}{'runs/s':>9}{'bare/s':>9}{'ratio':>7}{'errors':>8}")
    for row in results["sustained"]:
        print(f"{row['clients']:>8}{row['runs_per_s']:>9}{row['bare_per_s']:>9}{row['ratio']:>7}{row['errors']:>8}")
    print(f"\nCPU per python run, all processes: {results['cpu_ms_per_python_run']} ms")
    print(f"idle, full pool: {results['idle_percent_of_a_core']} % of a core")


if __name__ == "__main__":
    main()
