"""What a warm sandbox holds while it waits, by language; and what the service costs while nothing is asked of it.

A sandbox's private memory is what is charged to its control group: what it alone has made the kernel spend, page
tables and stacks included. The sum of its processes' private pages would be less than the truth, since what an
agent shares with the child it has forked is private to neither.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from bench.clocks import MIB, cpu_ns, group_memory_bytes, group_pids, memory_of
from bench.layers import has_libraries, language_of
from bench.report import Table
from bench.service import Service

#: The most that a waiting sandbox of these may have charged to it.
PRIVATE_MAX_MB = {"python": 12, "bash": 12}


def slots(service: Service) -> list[dict[str, Any]]:
    """A row a language: medians over its warm sandboxes."""
    service.settle()
    found: dict[str, list[tuple[int, int, int]]] = {}
    for group in service.sandbox_groups("memory"):
        pids = group_pids(group)
        language = language_of(pids, service)
        if language is not None:
            if has_libraries(pids):
                language += ", libraries imported"
            each = [memory_of(pid) for pid in pids]
            anonymous, share = sum(a for a, _ in each), sum(s for _, s in each)
            found.setdefault(language, []).append((group_memory_bytes(group), anonymous, share))
    return [_row(language, measured) for language, measured in sorted(found.items())]


def _row(language: str, measured: list[tuple[int, int, int]]) -> dict[str, Any]:
    private, anonymous, share = (round(median(column) / MIB, 1) for column in zip(*measured, strict=True))
    bound = PRIVATE_MAX_MB.get(language)
    return {
        "language": language,
        "slots": len(measured),
        "private_mb": private,
        "anonymous_mb": anonymous,
        "pss_mb": share,
        "bound_mb": bound,
        "within": None if bound is None else private <= bound,
    }


def slot_tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a language."""
    shown = Table(
        "Memory of a warm sandbox, MiB (median)",
        ("", "sandboxes", "private", "bound", "anonymous pages", "share of all it maps"),
    )
    for row in rows:
        bound = "–" if row["bound_mb"] is None else f"{row['bound_mb']}: {'held' if row['within'] else 'BROKEN'}"
        figures = (row["private_mb"], bound, row["anonymous_mb"], row["pss_mb"])
        shown.rows.append((row["language"], row["slots"], *figures))
    return [shown]


def idle(service: Service, seconds: float) -> dict[str, Any]:
    """Percent of one core that the service uses with a full pool and nothing to do, by part."""
    service.settle()
    parts = service.pids() | {"sandboxes": [p for g in service.sandbox_groups("memory") for p in group_pids(g)]}
    time.sleep(2)
    before = {part: cpu_ns(pids) for part, pids in parts.items()}
    began = time.monotonic()
    time.sleep(seconds)
    took_ns = (time.monotonic() - began) * 1e9
    used = {part: (cpu_ns(pids) - before[part]) / took_ns * 100 for part, pids in parts.items()}
    return {
        "seconds": seconds,
        "percent_of_a_core": round(sum(used.values()), 3),
        "parts": {part: round(percent, 3) for part, percent in used.items()},
    }


def idle_tables(found: dict[str, Any]) -> list[Table]:
    """One row a part, and their sum."""
    shown = Table("Idle with a full pool, percent of a core", ("", "percent"))
    shown.rows.extend(found["parts"].items())
    shown.rows.append(("together", found["percent_of_a_core"]))
    return [shown]
