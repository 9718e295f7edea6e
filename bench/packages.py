"""What a layer of packages that is there already adds to a warm run, and how long one takes to be made.

The package is a wheel that the tests' registry serves, so that no registry of others is measured.
"""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any

from bench import programs
from bench.report import Table
from bench.sampling import Step, alternated
from bench.sessions import GAP_MS, call_step, rest

if TYPE_CHECKING:
    from bench.service import Service

#: The registry of the tests: only a checkout has it.
REGISTRY = "tests.support.registries"
#: At most so many milliseconds more for a run with a layer that is there.
MORE_MS = 3.0


def measure(service: Service, count: int) -> dict[str, Any]:
    """Return the p50 of a run without packages and with them, in ms. The service is restarted."""
    registries = importlib.import_module(REGISTRY)
    with registries.package_registry() as registry:
        registry.pip(registries.wheel("tiny", "1.0", {"tiny.py": "x = 1\n"}))
        service.up(PACKAGES="any", PYPI_URL=registry.pypi_url)
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
            found = alternated(steps, count, GAP_MS / 1000, rest)
        finally:
            client.close()
    plain_ms, packed_ms = found["plain"].ms(0.5), found["packed"].ms(0.5)
    if plain_ms is None or packed_ms is None:
        raise RuntimeError("no run has succeeded")
    more_ms = round(packed_ms - plain_ms, 2)
    return {
        "plain_p50_ms": plain_ms,
        "packed_p50_ms": packed_ms,
        "errors": found["plain"].errors + found["packed"].errors,
        "more_ms": more_ms,
        "made_s": round(made_s, 2),
        "within": more_ms <= MORE_MS,
    }


def tables(found: dict[str, Any]) -> list[Table]:
    """Show one row."""
    table = Table(
        f"A run of python with a layer that is there (bound: {MORE_MS:g} ms more)",
        ("without ms", "with ms", "more ms", "made in s", "errors"),
    )
    names = ("plain_p50_ms", "packed_p50_ms", "more_ms", "made_s", "errors")
    table.rows.append(tuple(found[name] for name in names))
    return [table]
