"""What a measurement looks like: tables on the terminal, the results file, the marked block of a page in docs/."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
README = REPO / "README.md"
RESULTS = REPO / "bench" / "results.json"
PAGE = REPO / "docs" / "performance.md"
BEGIN = "<!-- bench:{name} begin: written by `make bench`, change that -->"
END = "<!-- bench:{name} end -->"
SUMMARY_LANGUAGES, SUMMARY_GAPS_MS = ("python", "bash", "node"), (30, 100)
#: Beyond this load average before a run, somebody else's work is in its figures.
BUSY_LOAD = 0.5
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, the names of the columns, and rows; None in a cell means that it was not measured."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def text(self) -> str:
        """For a terminal."""
        cells = [self.head, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
        return "\n".join([self.title, *(f"  {line}" for line in lines), ""])

    def markdown(self) -> str:
        """For a page."""
        lines = [self.head, tuple("---" for _ in self.head), *(tuple(map(_shown, row)) for row in self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(results: dict[str, Any], tables: dict[str, list[Table]]) -> None:
    """The results file, every table in the page, and the few of them that the README has."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(filled(PAGE.read_text(), {"circumstances": [circumstances(results)], **tables}))
    README.write_text(filled(README.read_text(), {"summary": [summary(results)]}))


def filled(page: str, tables: dict[str, list[Table]]) -> str:
    """`page` with each block of these names written anew."""
    for name, found in tables.items():
        page = fill(page, name, "\n".join(table.markdown() for table in found))
    return page


def circumstances(results: dict[str, Any]) -> Table:
    """When and on what it was measured, and how busy that was."""
    head = ("measured", "machine", "kernel", "load average before, after")
    load = f"{results['load_average_before']}, {results['load_average_after']}"
    busy = results["load_average_before"] > BUSY_LOAD
    how = "others were at work on the machine, so read the ratios" if busy else "alone on its machine"
    return Table(f"The run, {how}", head, [(results["at"], results["machine"], results["kernel"], load)])


def summary(results: dict[str, Any]) -> Table:
    """What a newcomer wants to know: how long a run takes beside a bare start, and how many there can be."""
    shown = Table(
        "Measured as ratios to a bare start of python3 in the same run", ("", "measured", "of a bare start")
    )
    for language in SUMMARY_LANGUAGES:
        for row in results["latency"]:
            if row["language"] == language and row["gap_ms"] in SUMMARY_GAPS_MS:
                what = f"{language}, {row['gap_ms']} ms between requests, p50 over HTTP"
                shown.rows.append((what, f"{row['p50_ms']} ms", row["ratio"]))
    for row in results["throughput"]:
        what = f"python, {row['clients']} client{'s' if row['clients'] > 1 else ''} without a pause"
        shown.rows.append((what, f"{row['runs_per_s']} runs/s", row["ratio"]))
    return shown


def fill(page: str, name: str, text: str) -> str:
    """`page` with what lies between a block's two marks replaced. Raises ValueError if it has no such block."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, found, rest = page.partition(begin)
    _old, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no block {name}")
    return f"{before}{begin}\n{text}{end}{after}"


def read() -> dict[str, Any]:
    """The results of the last whole run."""
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def _shown(value: object) -> str:
    return NOT_MEASURED if value is None else str(value)


def _aligned(row: Iterable[str], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
