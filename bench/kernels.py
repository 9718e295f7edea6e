"""How long the runs of contexts take a client, as ratios to a bare start taken in between.

The bounds are those of the contract. A session is new for its first run, and for the first one after it was frozen.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import bare, programs
from bench.sampling import Samples, Step, alternated
from bench.sessions import GAP_MS, call_step, calls_table, rest, row

if TYPE_CHECKING:
    from bench.clients import Client
    from bench.report import Table
    from bench.service import Service

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
PANDAS = "import pandas as pd\npd.DataFrame({'a': [1]})"
IMPORTED = "import sys; 'pandas' in sys.modules"
#: At most so many bare starts; None where the contract has no bound.
BOUNDS: dict[str, float | None] = {
    "bare": None,
    "first run of a session": 1.0,
    "run, from the third on": 0.6,
    "first run after a freeze": 1.0,
    "session created, with pandas imported": 1.5,
    "session created, and a table of pandas in it": None,
    "figure in the reply": 12.0,
    "single-use run with results": None,
    "single-use run without": None,
}
#: What a session is frozen after, in seconds, and how long the bench waits for that.
FREEZE_S, FROZEN_S = 1, 2.2
#: Waits of seconds are for fewer samples than others.
MOST_FREEZES = 20


def measure(service: Service, count: int) -> list[dict[str, Any]]:
    """Return a row for each kind of call."""
    client = service.client()
    made = [_created(client), _created(client, freeze_after_s=FREEZE_S)]
    kept, sleeper = (f"/v1/sessions/{name}" for name in made)
    try:
        for path in (kept, sleeper):
            for _ in range(2):
                client.post_any(f"{path}/runs", b'{"code":"x = 21"}')
        cell = {"code": "x*2"}
        new = partial(_in_new_session, client)
        steps: dict[str, Step] = {
            "bare": lambda: bare.start(programs.BARE),
            "first run of a session": lambda: new("21*2", b'"text":"42"', run=True),
            "run, from the third on": call_step(client, "POST", f"{kept}/runs", cell, b'"text":"42"'),
            "session created, with pandas imported": lambda: new(IMPORTED, b'"text":"True"', creation=True),
            "session created, and a table of pandas in it": lambda: new(
                PANDAS, b'"data":', creation=True, run=True
            ),
            "figure in the reply": call_step(client, "POST", f"{kept}/runs", {"code": FIGURE}, b'"png":"'),
            "single-use run with results": call_step(client, "POST", "/v1/runs", _single(results=True), b'"42"'),
            "single-use run without": call_step(client, "POST", "/v1/runs", _single(results=False), b'"42\\n"'),
        }
        found = alternated(steps, count, GAP_MS / 1000, rest)
        found["first run after a freeze"] = _thawed(client, sleeper, min(count, MOST_FREEZES))
    finally:
        for name in made:
            client.call("DELETE", f"/v1/sessions/{name}")
        client.close()
    yardstick = found["bare"].ms(0.5)
    return [row(name, found[name], yardstick, bound) for name, bound in BOUNDS.items()]


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """The calls."""
    return [calls_table("Runs of contexts", rows)]


def _single(*, results: bool) -> dict[str, Any]:
    code = "21*2" if results else "print(21*2)"
    return {"language": "python", "code": code, "results": results}


def _created(client: Client, **fields: Any) -> str:  # any field of a session
    raw = client.post_any("/v1/sessions", json.dumps({"language": "python", **fields}).encode())
    return str(json.loads(raw)["id"])


def _in_new_session(
    client: Client, code: str, expected: bytes, *, creation: bool = False, run: bool = False
) -> float:
    """Return the seconds that the creation of a session took, its first run, or both."""
    began = time.perf_counter()
    name = _created(client)
    created_s = time.perf_counter() - began
    if not creation:
        rest()
    began = time.perf_counter()
    raw = client.post_any(f"/v1/sessions/{name}/runs", json.dumps({"code": code}).encode())
    ran_s = time.perf_counter() - began
    client.call("DELETE", f"/v1/sessions/{name}")
    if expected not in raw:
        raise RuntimeError(f"a first run: {raw[:200]!r}")
    return created_s * creation + ran_s * run


def _thawed(client: Client, path: str, count: int) -> Samples:
    samples = Samples()
    step = call_step(client, "POST", f"{path}/runs", {"code": "x*2"}, b'"text":"42"')
    for _ in range(count):
        time.sleep(FROZEN_S)
        samples.take(step)
    return samples
