"""How long the calls of a session take a client, as ratios to a bare start taken in between, and beside a flood.

The bounds are those of the contract. Sessions are created with a pause between them and back to back; a run, a
process and one kilobyte in and out go to one session that stays.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench import bare, programs, resting
from bench.report import Table
from bench.sampling import Samples, Step, alternated, paced, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.clients import Client
    from bench.service import Service

GAP_MS = 100
IN_A_ROW = 10
KILOBYTE = b"x" * 1024
#: At most so many bare starts; None where a session without kernels has no bound.
BOUNDS: dict[str, float | None] = {
    "bare": None,
    "session created": 1.2,
    "session created, ten back to back": 2.0,
    "run, bash": None,
    "run, python": None,
    "process `true`": 0.8,
    "1 KB written": 0.5,
    "1 KB read": 0.5,
}
#: What a flood on one channel may add to a `stat` on another.
FLOOD_MS = 50
FLOOD = "while :; do head -c 1M /dev/zero; done"


def measure(service: Service, count: int) -> dict[str, Any]:
    """`calls`: a row for each call; `flood`: a `stat` alone and beside a process that floods its output; `resting`:
    what many idle ones cost.
    """
    client = service.client()
    try:
        with _opened(client, "bash") as shell, _opened(client, "python") as python:
            steps: dict[str, Step] = {
                "bare": lambda: bare.start(programs.BARE),
                "session created": lambda: _create(client),
                "run, bash": call_step(client, "POST", f"{shell}/runs", {"code": "echo $((21*2))"}, b'"succeeded"'),
                "run, python": call_step(client, "POST", f"{python}/runs", {"code": "print(21*2)"}, b'"succeeded"'),
                "process `true`": call_step(
                    client, "POST", f"{shell}/processes", {"argv": ["true"], "wait": True}, b'"exit_code":0'
                ),
                "1 KB written": call_step(client, "PUT", f"{shell}/files?path=kb", KILOBYTE, b'"size":1024'),
                "1 KB read": call_step(client, "GET", f"{shell}/files?path=kb", b"", KILOBYTE),
            }
            found = alternated(steps, count, GAP_MS / 1000, rest)
            flood = _flood(client, shell, count)
        found["session created, ten back to back"] = _in_a_row(service, client, count)
    finally:
        client.close()
    yardstick = found["bare"].ms(0.5)
    rows = [row(name, found[name], yardstick, bound) for name, bound in BOUNDS.items()]
    return {"calls": rows, "flood": flood, "resting": resting.measure(service, count)}


def rest() -> None:
    """Wait a moment: what the last block has begun is over."""
    time.sleep(0.1)


def row(name: str, samples: Samples, yardstick: float | None, bound: float | None) -> dict[str, Any]:
    """Return the facts of one kind of call."""
    found = ratio(samples.ms(0.5), yardstick)
    return {
        "what": name,
        "samples": len(samples.seconds),
        "errors": samples.errors,
        "p50_ms": samples.ms(0.5),
        "p99_ms": samples.ms(0.99),
        "ratio": found,
        "bound": bound,
        "within": None if bound is None or found is None else found <= bound,
    }


def _create(client: Client) -> float:
    """Return the seconds until a session was there; it is deleted behind that."""
    began = time.perf_counter()
    raw = client.post_any("/v1/sessions", b'{"language":"python"}')
    took = time.perf_counter() - began
    client.call("DELETE", f"/v1/sessions/{json.loads(raw)['id']}")
    return took


def _in_a_row(service: Service, client: Client, count: int) -> Samples:
    """Return the times of sessions that are created ten back to back, and deleted when all are there."""
    samples = Samples()
    for _ in range(-(-count // IN_A_ROW)):
        service.settle()
        made: list[str] = []

        def step(made: list[str] = made) -> float:
            began = time.perf_counter()
            raw = client.post_any("/v1/sessions", b'{"language":"python","limits":{"memory_mb":128}}')
            took = time.perf_counter() - began
            made.append(json.loads(raw)["id"])
            return took

        paced(samples, IN_A_ROW, 0, step)
        for session in made:
            client.call("DELETE", f"/v1/sessions/{session}")
    return samples


def _flood(client: Client, shell: str, count: int) -> dict[str, Any]:
    """Return the times of a `stat` alone, and beside a process of the same session that floods its output."""
    step = call_step(client, "GET", f"{shell}/files/stat?path=/work", b"", b'"directory"')
    alone, beside = Samples(), Samples()
    paced(alone, count, GAP_MS / 1000, step)
    raw = client.post_any(f"{shell}/processes", json.dumps({"command": FLOOD}).encode())
    time.sleep(0.5)
    paced(beside, count, GAP_MS / 1000, step)
    client.call("DELETE", f"{shell}/processes/{json.loads(raw)['id']}")
    before, after = alone.ms(0.5), beside.ms(0.5)
    more = None if before is None or after is None else round(after - before, 2)
    return {
        "alone_p50_ms": before,
        "beside_p50_ms": after,
        "beside_p99_ms": beside.ms(0.99),
        "more_ms": more,
        "errors": alone.errors + beside.errors,
        "within": None if more is None else more <= FLOOD_MS,
    }


def call_step(client: Client, method: str, path: str, body: dict[str, Any] | bytes, expected: bytes) -> Step:
    """Return a call that is timed and must have this in its answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def step() -> float:
        began = time.perf_counter()
        raw = client.call(method, path, data or None)
        took = time.perf_counter() - began
        if expected not in raw:
            raise RuntimeError(f"{method} {path}: {raw[:200]!r}")
        return took

    return step


@contextmanager
def _opened(client: Client, language: str) -> Iterator[str]:
    """Open a session; its path."""
    raw = client.post_any("/v1/sessions", json.dumps({"language": language}).encode())
    path = f"/v1/sessions/{json.loads(raw)['id']}"
    try:
        yield path
    finally:
        client.call("DELETE", path)


def tables(found: dict[str, Any]) -> list[Table]:
    """The calls, the flood, and many idle sessions."""
    flood = Table(
        "`stat` in a session, beside a process of it that floods its output",
        ("alone p50 ms", "beside p50 ms", "beside p99 ms", "more, ms", f"within {FLOOD_MS} ms", "errors"),
    )
    one = found["flood"]
    within = {None: "–", True: "yes", False: "no"}[one["within"]]
    flood.rows.append(
        (one["alone_p50_ms"], one["beside_p50_ms"], one["beside_p99_ms"], one["more_ms"], within, one["errors"])
    )
    return [calls_table("Calls of a session", found["calls"]), flood, *resting.tables(found["resting"])]


def calls_table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return calls beside a bare start, and whether they are within their bounds."""
    calls = Table(
        f"{title}, {GAP_MS} ms idle before each, and of a bare start in between",
        ("", "p50 ms", "p99 ms", "in bare starts", "bound", "within", "errors"),
    )
    for one in rows:
        bound = "–" if one["bound"] is None else one["bound"]
        within = {None: "–", True: "yes", False: "no"}[one["within"]]
        calls.rows.append((one["what"], one["p50_ms"], one["p99_ms"], one["ratio"], bound, within, one["errors"]))
    return calls
