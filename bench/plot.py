"""The picture of a whole run, docs/performance.svg: what is not said as well by a table."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl

from bench.report import REPO

PICTURE = REPO / "docs" / "performance.svg"
#: The same results draw the same file: no date, no random ids, text as text.
STYLE: Any = {
    "svg.hashsalt": "runyard",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
WIDTH_IN, HEIGHT_IN = 10.0, 6.2
#: Name, key of a row, colour; None is the next of the palette.
RATES = (
    ("service", "runs_per_s", None),
    ("bare starts", "bare_per_s", "0.6"),
    ("docker run", "docker_per_s", "0.8"),
)


def draw(results: dict[str, Any]) -> None:
    """Write the picture of a whole run's results."""
    mpl.use("svg")
    from matplotlib import pyplot as plt  # after the choice of what draws

    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        _latency(axes[0][0], results["latency"])
        _throughput(axes[0][1], results["throughput"])
        _cpu(axes[1][0], results["cpu"]["steps_ms"])
        _queue(axes[1][1], results["queue"])
        figure.savefig(PICTURE, format="svg", metadata=NO_METADATA)
        plt.close(figure)
    # Lines end where their text does: what else they end in is noise in a diff.
    PICTURE.write_text("".join(f"{line.rstrip()}\n" for line in PICTURE.read_text().splitlines()))


def _latency(axes: Any, rows: list[dict[str, Any]]) -> None:  # matplotlib's own
    axes.set_title("p50 of a warm run, by idle time before it")
    for name in dict.fromkeys(row["language"] for row in rows if not row["language"].startswith("own ")):
        points = [(row["gap_ms"], row["p50_ms"]) for row in rows if row["language"] == name and row["p50_ms"]]
        style: dict[str, Any] = {"color": "black", "ls": "--"} if name == "bare" else {}
        axes.plot(*zip(*points, strict=True), marker="o", label=name, **style)
    axes.set_xlabel("ms between requests")
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=2)


def _throughput(axes: Any, rows: list[dict[str, Any]]) -> None:
    axes.set_title("Python runs a second")
    measured = [one for one in RATES if any(row[one[1]] for row in rows)]
    width = 0.8 / len(measured)
    for number, (name, key, colour) in enumerate(measured):
        places = [place + (number - (len(measured) - 1) / 2) * width for place in range(len(rows))]
        axes.bar(places, [row[key] or 0 for row in rows], width, label=name, color=colour)
    axes.set_xticks(range(len(rows)), [str(row["clients"]) for row in rows])
    axes.set_xlabel("clients without a pause")
    axes.legend()


def _cpu(axes: Any, steps: dict[str, float | None]) -> None:
    axes.set_title("CPU of a python run by step, ms")
    shown = {name: ms for name, ms in steps.items() if ms is not None}
    bars = axes.barh(list(reversed(shown)), list(reversed(shown.values())))
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.grid(visible=False)


def _queue(axes: Any, rows: list[dict[str, Any]]) -> None:
    axes.set_title("CPU of api and worker a run, by the number waiting")
    labels = [str(row["waiting"]) for row in rows]
    for name in ("worker", "api"):
        axes.plot(labels, [row[f"{name}_ms"] for row in rows], marker="o", label=name)
    axes.set_xlabel("runs waiting")
    axes.set_ylabel("ms")
    axes.set_ylim(bottom=0)
    axes.legend()
