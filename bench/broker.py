"""A RabbitMQ of the bench's own, and what it counts: messages, bytes, memory.

It is the one of the tests, which only a checkout has: one node, one scheduler, no plug-ins. The counters are those
of its own tool, `rabbitmqctl`.
"""

from __future__ import annotations

import importlib
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

RABBIT = "tests.support.rabbit"
#: Parts of the broker's memory that grow with connections and queues. Without `binary`: it counts the buffers of
#: all sockets, which are large and never touched.
MEMORY_PARTS = (
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "metrics",
    "mnesia",
    "other_ets",
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has passed the broker so far. The bytes are those of its connections, all in all."""

    at_s: float
    published: int
    delivered: int
    confirmed: int
    acknowledged: int
    bytes_in: int
    bytes_out: int


class Broker:
    """A broker that runs."""

    def __init__(self, server: Any) -> None:  # the tests are not typed
        self._server = server
        self.url: str = server.url

    def pids(self) -> list[int]:
        """Its processes."""
        found: list[int] = self._server.processes()
        return found

    def traffic(self) -> Traffic:
        """Read the counters. Bytes of connections that are closed are not among them."""
        counters = self._asked("eval", "rabbit_global_counters:overview().")
        at_s = time.monotonic()

        def total(name: str) -> int:
            return sum(int(number) for number in re.findall(rf"\b{name} => (\d+)", counters))

        rows = [line.split() for line in self._asked("list_connections", "recv_oct", "send_oct").splitlines()]
        octets = [(int(row[0]), int(row[1])) for row in rows if len(row) == 2 and row[0].isdigit()]
        return Traffic(
            at_s=at_s,
            published=total("messages_received_total"),
            delivered=total("messages_delivered_total"),
            confirmed=total("messages_confirmed_total"),
            acknowledged=total("messages_acknowledged_total"),
            bytes_in=sum(row[0] for row in octets),
            bytes_out=sum(row[1] for row in octets),
        )

    def memory_kb(self) -> dict[str, int]:
        """Return the memory of its connections, channels and queues after a collection, and what is resident."""
        self._asked("force_gc")
        said = self._asked("eval", "rabbit_vm:memory().")

        def total(*names: str) -> int:
            found = (re.search(rf"{{{name},(\d+)}}", said) for name in names)
            return sum(int(one[1]) for one in found if one) // 1024

        return {"memory_kb": total(*MEMORY_PARTS), "resident_kb": total("rss")}

    def _asked(self, *arguments: str) -> str:
        said: str = self._server.control("-q", *arguments)
        return said


@contextmanager
def running() -> Iterator[Broker]:
    """Start a broker; nothing of it is left afterwards."""
    server = importlib.import_module(RABBIT).RabbitMQ()
    try:
        yield Broker(server)
    finally:
        server.remove()
