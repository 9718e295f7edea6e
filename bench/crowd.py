"""Many workers that only announce themselves: what each costs the broker and an api process.

`python -m bench.crowd URL QUEUE COUNT` is that crowd: real ends of the transport, each with a connection of its
own, which announce what a worker does, and keep the conversation that each api process begins with every worker.
Their isolation is none that a job asks for, so none is sent to them. They end with its standard input.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.clocks import MS, cpu_ns
from bench.service import REPO

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from bench.broker import Broker
    from bench.service import Service

FACTS: dict[str, Any] = {
    "version": "0.0.0",
    "is_stopping": False,
    "languages": ["bash", "bun", "deno", "go", "node", "php", "python", "ruby", "rust", "typescript"],
    "isolations": ["crowd"],
    "places": 8,
    "load": 0,
    "sessions": 0,
}
#: Seconds until all have announced themselves, and the api follows all of them.
SETTLED_S = 5.0


def measure(remote: Service, broker: Broker, count: int, seconds: float) -> dict[str, Any]:
    """Return what the crowd adds a second to broker and api, and to the broker's memory."""
    alone, memory = _rates(remote, broker, seconds), broker.memory_kb()
    with _running(broker.url, count):
        beside, more = _rates(remote, broker, seconds), broker.memory_kb()
    added = {name: round(beside[name] - alone[name], 2) for name in alone}
    grown = {name: more[name] - memory[name] for name in memory}
    return {"workers": count, "seconds": seconds, **added, **grown}


def _rates(remote: Service, broker: Broker, seconds: float) -> dict[str, float]:
    pids = {"api": remote.pids()["api"], "broker": broker.pids()}
    traffic, before, began = broker.traffic(), {part: cpu_ns(pids[part]) for part in pids}, time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = {part: (cpu_ns(pids[part]) - before[part]) / MS / took for part in pids}
    after = broker.traffic()
    counted_s = after.at_s - traffic.at_s
    return {
        "api_cpu_ms": used["api"],
        "broker_cpu_ms": used["broker"],
        "published": (after.published - traffic.published) / counted_s,
        "delivered": (after.delivered - traffic.delivered) / counted_s,
    }


@contextmanager
def _running(url: str, count: int) -> Iterator[None]:
    argv = [sys.executable, "-m", "bench.crowd", url, "runner_jobs", str(count)]
    with subprocess.Popen(argv, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdin is not None
        try:
            if crowd.stdout.readline() != b"ready\n":
                raise RuntimeError("the crowd does not start")
            time.sleep(SETTLED_S)
            yield
        finally:
            crowd.stdin.close()


def _serve(url: str, queue: str, count: int) -> None:
    from config.amqp_url import parse_amqp_url
    from transport.acceptor import AcceptingEndpoint
    from transport.access import BrokerAccess

    kept: list[socket.socket] = []
    access = BrokerAccess(parse_amqp_url(url))
    ends = [AcceptingEndpoint(access, queue, serve=kept.append, facts=lambda: FACTS) for _ in range(count)]
    for end in ends:
        end.start()
    while not all(end.is_connected for end in ends):
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
    for end in ends:
        end.link.call(end._say_bye)
    time.sleep(1)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
