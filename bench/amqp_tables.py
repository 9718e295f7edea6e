"""How the figures of `bench.amqp` are shown."""

from __future__ import annotations

from typing import Any

from bench.report import Table

WAYS = {"bare": "bare start", "socket": "Unix socket", "amqp": "AMQP"}


def tables(found: dict[str, Any]) -> list[Table]:
    """Return the times, the CPU, the rate of two workers, and what the broker carries."""
    return [
        _times("A python run, 100 ms idle before each", found["runs"]),
        _bounds(found),
        _times("A line of a stream, from the program's write to the client", found["events"]),
        _cpu(found["cpu"]),
        _traffic(found["traffic"]),
        _workers(found["workers"]),
        _crowd(found["crowd"]),
    ]


def _times(title: str, rows: dict[str, Any]) -> Table:
    shown = Table(title, ("", "samples", "p50 ms", "p90 ms", "errors"))
    for name, said in WAYS.items():
        if name in rows:
            row = rows[name]
            shown.rows.append((said, row["samples"], row["p50_ms"], row["p90_ms"], row["errors"]))
    return shown


def _bounds(found: dict[str, Any]) -> Table:
    """Return the four bounds of the contract."""
    shown = Table("Bounds", ("", "measured", "half of the pairs", "bound", "within"))
    runs, events, cpu, workers = (found[name] for name in ("runs", "events", "cpu", "workers"))

    def row(said: str, value: object, spread: object, bound: str, part: dict[str, Any]) -> None:
        shown.rows.append((said, value, spread, bound, "yes" if part["within"] else "no"))

    low, high = runs["hop_quartiles_ms"]
    row("hop, p50, in bare starts", runs["hop"], f"{low} to {high} ms", f"at most {runs['bound']}", runs)
    row("event, p50 ms", events["amqp"]["p50_ms"], "–", f"at most {events['bound_ms']}", events)
    low, high = cpu["quartiles"]
    row("CPU of api and worker, of the socket's", cpu["ratio"], f"{low} to {high}", f"at most {cpu['bound']}", cpu)
    row("two workers, of one", workers["ratio"], "–", f"at least {workers['bound']}", workers)
    return shown


def _cpu(found: dict[str, Any]) -> Table:
    shown = Table("CPU, ms", ("", "api, a run", "worker, a run", "broker, a run", "api, a second at rest",
                              "worker, a second at rest", "broker, a second at rest"))  # fmt: skip
    for name in ("socket", "amqp"):
        run, rest = found[name], found["idle_ms_per_s"][name]
        parts = [side.get(part, "–") for side in (run, rest) for part in ("api", "worker", "broker")]
        shown.rows.append((WAYS[name], *parts))
    return shown


def _traffic(found: dict[str, float]) -> Table:
    names = ("published", "delivered", "confirmed", "acknowledged", "bytes_in", "bytes_out")
    shown = Table("At the broker, for each run, announcements included", tuple(n.replace("_", " ") for n in names))
    shown.rows.append(tuple(found[name] for name in names))
    return shown


def _workers(found: dict[str, Any]) -> Table:
    shown = Table("Programs that sleep 200 ms, runs/s in each turn", ("", "first turn", "second turn", "errors"))
    for name in ("one", "two"):
        shown.rows.append((f"{name} of 8 places", *found[name], found["errors"]))
    return shown


def _crowd(found: dict[str, Any]) -> Table:
    shown = Table(
        f"{found['workers']} idle workers more add, each second",
        (
            "published",
            "delivered",
            "broker CPU ms",
            "CPU ms of one api",
            "memory of the broker, KB in all",
            "resident, KB",
        ),
    )
    names = ("published", "delivered", "broker_cpu_ms", "api_cpu_ms", "memory_kb", "resident_kb")
    shown.rows.append(tuple(found[name] for name in names))
    return shown
