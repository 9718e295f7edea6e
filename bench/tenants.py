"""How long another tenant's hello takes beside each attack of the adversarial suite on what the machine shares."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

from bench import programs
from bench.report import Table
from bench.sampling import FAILURES, Samples, paced
from bench.service import Service

#: Data of the suite: only a checkout has it.
ATTACKS = "tests.adversarial.attacks"
#: Within this a hello is to be answered, whatever others do.
WITHIN_MS = 1000.0
GAP_S = 0.02
LANGUAGE = "python"


def measure(service: Service, calls: int) -> list[dict[str, Any]]:
    """A row for no attack and for each."""
    suite = importlib.import_module(ATTACKS)
    rows = [_row(service, "none", [], calls)]
    for name, (runs, code) in suite.ATTACKS.items():
        body = programs.body(LANGUAGE, code, limits=suite.LIMITS)
        attackers = [threading.Thread(target=_attack, args=(service, body)) for _ in range(runs)]
        rows.append(_row(service, name, attackers, calls))
        service.settle()
    return rows


def _attack(service: Service, body: bytes) -> None:
    client = service.client()
    try:
        client.call("POST", "/v1/runs", body)
    except FAILURES as e:
        print(f"an attacking run failed: {e}", file=sys.stderr)
    finally:
        client.close()


def _row(service: Service, name: str, attackers: list[threading.Thread], calls: int) -> dict[str, Any]:
    client, hello = service.client(), programs.body(LANGUAGE, "print('hi')")
    samples = Samples()
    for attacker in attackers:
        attacker.start()
    while True:
        paced(samples, 1 if attackers else calls, GAP_S, lambda: client.run(hello))
        if not any(attacker.is_alive() for attacker in attackers):
            break
    client.close()
    worst = samples.ms(1.0)
    return {
        "attack": name,
        "hello_p50_ms": samples.ms(0.5),
        "hello_max_ms": worst,
        "errors": samples.errors,
        "within": worst is not None and worst <= WITHIN_MS and not samples.errors,
    }


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row an attack."""
    shown = Table(
        f"A {LANGUAGE} hello beside an attack (to be answered within {WITHIN_MS:.0f} ms)",
        ("attack", "p50 ms", "slowest ms", "errors", "within"),
    )
    for row in rows:
        said = "yes" if row["within"] else "no"
        shown.rows.append((row["attack"], row["hello_p50_ms"], row["hello_max_ms"], row["errors"], said))
    return [shown]
