"""Show the counts of the egress process among the worker's metrics: by verdict, never by host.

They are asked for when the metrics are: the process itself serves nothing but its socket. While it does not answer
there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sandbox.network.question import ask_egress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric


class EgressCounters(Collector):
    """The counts of an egress process, whose status `ask` returns."""

    def __init__(self, ask: Callable[[], dict[str, Any] | None]) -> None:
        self._ask = ask

    def describe(self) -> Iterator[Metric]:
        """Yield no name: registration must not ask a process that has not started yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        status = self._ask()
        yield GaugeMetricFamily(
            "runyard_egress_up", "Whether the egress process answers.", 0 if status is None else 1
        )
        if status is None:
            return
        connections = CounterMetricFamily(
            "runyard_egress_connections",
            "Connections of programs that have ended, by verdict.",
            labels=("verdict",),
        )
        for verdict, count in status["verdicts"].items():
            connections.add_metric((verdict,), count)
        yield connections
        yield GaugeMetricFamily("runyard_egress_open", "Connections of programs that are open.", status["open"])
        moved = CounterMetricFamily(
            "runyard_egress_bytes", "Bytes sent to hosts and received from them.", labels=("direction",)
        )
        for direction in ("sent", "received"):
            moved.add_metric((direction,), status[f"{direction}_bytes"])
        yield moved


def ask_status(path: Path) -> dict[str, Any] | None:
    """Return the status of the egress process at a socket; None where it does not answer in time."""
    found = (ask_egress(path, {"op": "status"}) or {}).get("status")
    return found if isinstance(found, dict) else None
