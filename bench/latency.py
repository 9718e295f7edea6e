"""How long a warm run takes a client: by language and by the idle time before it, beside bare starts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from bench import bare, programs
from bench.report import Table
from bench.sampling import Samples, Step, paced, ratio
from bench.service import Service

GAPS_MS = (0, 30, 100, 300)
FEW_GAPS_MS = (0, 100)
WARM_UP = 5
#: Calls of one kind in a row. Without idle time between them: enough to empty the pool, as such a client does.
BLOCK, BLOCK_BACK_TO_BACK = 10, 100


def measure(service: Service, count: int) -> list[dict[str, Any]]:
    """A row for each language and gap; `bare` is the row of the yardstick, `own` that of an image's interpreter."""
    client = service.client()
    runs: dict[str, Step] = {}
    for language in service.languages:
        request = programs.body(language["id"], programs.HELLO.get(language["id"], language["example"]))
        runs[language["id"]] = lambda request=request: client.run(request)  # type: ignore[misc]
    rows: list[dict[str, Any]] = []
    for gap_ms in GAPS_MS:
        chosen = {name: step for name, step in runs.items() if name in programs.FULL or gap_ms in FEW_GAPS_MS}
        steps = {"bare": lambda: bare.start(programs.BARE), **chosen}
        found = _gap(service, steps, gap_ms, count)
        first = rows[0] if rows else None
        yardstick, back_to_back = found["bare"], first["p50_ms"] if first else found["bare"].ms(0.5)
        rows += [_row(name, gap_ms, samples, yardstick, back_to_back) for name, samples in found.items()]
    client.close()
    return rows + _own(service, list(runs), count, rows[0]["p50_ms"])


def _gap(service: Service, steps: dict[str, Step], gap_ms: int, count: int) -> dict[str, Samples]:
    """Every step `count` times at one gap, in blocks that alternate, so that a slow moment hits all of them."""
    found = {name: Samples() for name in steps}
    block = min(count, BLOCK if gap_ms else BLOCK_BACK_TO_BACK)
    for step in steps.values():
        paced(Samples(), WARM_UP, 0, step)
    service.settle()
    for _ in range(-(-count // block)):
        for name, step in steps.items():
            if not gap_ms:
                service.settle()
            paced(found[name], block, gap_ms / 1000, step)
            time.sleep(0.1)
    return found


def _row(
    name: str, gap_ms: int, samples: Samples, yardstick: Samples, back_to_back_ms: float | None
) -> dict[str, Any]:
    p50, p99 = samples.ms(0.5), samples.ms(0.99)
    return {
        "language": name,
        "gap_ms": gap_ms,
        "samples": len(samples.seconds),
        "errors": samples.errors,
        "p50_ms": p50,
        "p99_ms": p99,
        "ratio": ratio(p50, yardstick.ms(0.5)),
        "ratio_p99": ratio(p99, yardstick.ms(0.99)),
        "ratio_back_to_back": ratio(p50, back_to_back_ms),
    }


def _own(service: Service, languages: list[str], count: int, bare_ms: float | None) -> list[dict[str, Any]]:
    """What the interpreters of the runner images take when started by themselves, back to back."""
    rows = []
    with ExitStack() as stack:
        for language in languages:
            image = service.image(language)
            if image is None or language not in programs.OWN:
                continue
            step = stack.enter_context(bare.inside(image.layers, programs.OWN[language]))
            samples = Samples()
            paced(Samples(), WARM_UP, 0, step)
            paced(samples, min(count, 50), 0, step)
            rows.append(
                {
                    "language": f"own {language}",
                    "gap_ms": 0,
                    "samples": len(samples.seconds),
                    "errors": samples.errors,
                    "p50_ms": samples.ms(0.5),
                    "p99_ms": samples.ms(0.99),
                    "ratio": ratio(samples.ms(0.5), bare_ms),
                }
            )
    return rows


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a language, a column for each gap."""
    shown = Table(
        "Warm run over HTTP: p50 / p99 in ms, and p50 in bare starts at the same gap",
        ("", *(f"{gap} ms idle" if gap else "back to back" for gap in GAPS_MS), "own interpreter, bare", "errors"),
    )
    by = {(row["language"], row["gap_ms"]): row for row in rows}
    for name in dict.fromkeys(row["language"] for row in rows if not row["language"].startswith("own ")):
        cells = [_cell(by.get((name, gap))) for gap in GAPS_MS]
        own = by.get((f"own {name}", 0))
        errors = sum(row["errors"] for row in rows if row["language"] == name)
        shown.rows.append((name, *cells, "–" if own is None else f"{own['p50_ms']} ({own['ratio']}×)", errors))
    return [shown]


def _cell(row: dict[str, Any] | None) -> str:
    return "–" if row is None else f"{row['p50_ms']} / {row['p99_ms']} ({row['ratio']}×)"
