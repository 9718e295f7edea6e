"""What the way through a broker costs a run, beside the Unix socket of one machine, in one measurement.

Two services are asked in turns: that of the bench, and one whose api and worker are connected by RabbitMQ. They
have the same settings and images. The CPU is that of api, worker and broker beyond what they use at rest, which is
shown by itself. A second worker is started and stopped for the rate of two.
"""

from __future__ import annotations

import importlib
import os
import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import bare, broker, crowd, programs, stream
from bench.amqp_tables import tables
from bench.clients import NDJSON
from bench.clocks import MS, cpu_ns
from bench.sampling import ALTERNATED_BLOCK, Samples, Step, alternated, paced, percentile, ratio, sustained
from bench.service import Service
from bench.sessions import rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.broker import Broker

__all__ = ["measure", "tables"]

WORKERS = "tests.support.workers"
#: What the hop may add to the p50, in bare starts; the p50 of an event; two workers to one; CPU to the socket's.
HOP_BOUND, EVENT_BOUND_MS, TWO_BOUND, CPU_BOUND = 0.6, 5.0, 1.8, 1.3
GAP_S, CPU_GAP_S = 0.1, 0.03
CPU_BLOCKS, CPU_RUNS = 10, 20
#: Seconds after a block until the next sandboxes wait.
REFILLED_S = 0.25
STREAMS, STREAM_LINES = 5, 60
PLACES, CLIENTS = 8, 24
SLEEP = "sleep 0.2"
TURNS = 2
COUNTED_RUNS = 100
CROWD = 100
#: Between the first accounts of two workers of this machine: 128 ranges of 65536.
UIDS = 0x80_0000
DEFAULT_UID_BASE = 0x7000_0000
SETTINGS = {
    "LANGUAGES": "python,bash",
    "WARM_POOL": "python=8,bash=8",
    "MAX_RUNS": str(PLACES),
    # A template that is replaced meanwhile would be counted with the runs.
    "TEMPLATE_RUNS": "100000",
    "TEMPLATE_MINUTES": "1000",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two services, and the processes whose CPU its runs take."""

    service: Service
    pids: dict[str, list[int]]

    def cpu_ms(self) -> dict[str, float]:
        """Return the milliseconds so far, by part."""
        return {part: cpu_ns(pids) / MS for part, pids in self.pids.items()}


def measure(service: Service, calls: int, seconds: float) -> dict[str, Any]:
    """Measure both ways. The service is restarted."""
    with ExitStack() as stack:
        rabbit = stack.enter_context(broker.running())
        service.up(**SETTINGS)
        remote = stack.enter_context(_remote(service, rabbit))
        sides = {
            "socket": Side(service, _parts(service)),
            "amqp": Side(remote, _parts(remote) | {"broker": rabbit.pids()}),
        }
        return {
            "runs": _runs(sides, calls),
            "events": _events(sides),
            "cpu": _cpu(sides),
            "traffic": _traffic(remote, rabbit),
            "workers": _workers(remote, rabbit, seconds / 2),
            "crowd": crowd.measure(remote, rabbit, CROWD, seconds / 2),
        }


def _parts(service: Service) -> dict[str, list[int]]:
    return {part: pids for part, pids in service.pids().items() if part in ("api", "worker")}


@contextmanager
def _remote(service: Service, rabbit: Broker) -> Iterator[Service]:
    """Start a service whose api and worker are connected by the broker."""
    state = service.state.with_name(f"{service.state.name}-amqp")
    state.mkdir(mode=0o755)
    # The code is the same.
    (state / "venv").symlink_to(service.place.venv)
    remote = Service(state, service.port + 1)
    try:
        remote.up(**SETTINGS, **_place_of(service, rabbit, 1))
        yield remote
    finally:
        remote.down()
        shutil.rmtree(state)


def _place_of(service: Service, rabbit: Broker, number: int) -> dict[str, str]:
    """Return the settings of the worker of this number: its accounts, the images, the broker."""
    uid_base = int(os.environ.get("UID_BASE") or DEFAULT_UID_BASE) + number * UIDS
    return {"UID_BASE": str(uid_base), "IMAGES_DIR": str(service.place.images), "AMQP_URL": rabbit.url}


def _runs(sides: dict[str, Side], calls: int) -> dict[str, Any]:
    """Return the times of runs over each way and of bare starts, in blocks that alternate."""
    request = programs.body("python", programs.HELLO["python"])

    def step(side: Side) -> Step:
        client = side.service.client()
        return lambda: client.run(request)

    steps: dict[str, Step] = {"bare": lambda: bare.start(programs.BARE)}
    steps |= {name: step(side) for name, side in sides.items()}
    found = alternated(steps, calls, GAP_S, rest)
    socket, amqp, start = (found[name].ms(0.5) for name in ("socket", "amqp", "bare"))
    if socket is None or amqp is None:
        raise RuntimeError("no run has succeeded")
    hop = ratio(amqp - socket, start)
    return {
        **{name: _times(samples) for name, samples in found.items()},
        "hop_ms": round(amqp - socket, 2),
        "hop_quartiles_ms": _quartiles(_hops(found)),
        "hop": hop,
        "bound": HOP_BOUND,
        "within": hop is not None and hop <= HOP_BOUND,
    }


def _hops(found: dict[str, Samples]) -> list[float]:
    """Return the difference of the medians of each two neighbouring blocks, in ms."""

    def medians(samples: Samples) -> list[float]:
        blocks = range(0, len(samples.seconds), ALTERNATED_BLOCK)
        return [median(samples.seconds[at : at + ALTERNATED_BLOCK]) * 1000 for at in blocks]

    pairs = zip(medians(found["socket"]), medians(found["amqp"]), strict=False)
    return [amqp - socket for socket, amqp in pairs]


def _events(sides: dict[str, Side]) -> dict[str, Any]:
    """Return how long the lines of streamed runs take to their clients, one stream after the other, in turns."""
    code = stream.CODE.format(lines=STREAM_LINES)
    found = {name: Samples() for name in sides}
    for _ in range(STREAMS):
        for name, side in sides.items():
            side.service.settle()
            lags, _, errors = stream.streamed(side.service, code, NDJSON)
            found[name].seconds += lags
            found[name].errors += errors
    delay = found["amqp"].ms(0.5)
    return {
        **{name: _times(samples) for name, samples in found.items()},
        "bound_ms": EVENT_BOUND_MS,
        "within": delay is not None and delay <= EVENT_BOUND_MS,
    }


def _cpu(sides: dict[str, Side]) -> dict[str, Any]:
    """Return the CPU of a run over each way, block by block, and of a second at rest."""
    request = programs.body("python", programs.HELLO["python"])
    clients = {name: side.service.client() for name, side in sides.items()}
    for client in clients.values():
        paced(Samples(), 3, CPU_GAP_S, lambda client=client: client.run(request))  # type: ignore[misc]
    resting = {name: _used(side, lambda: time.sleep(2)) for name, side in sides.items()}
    idle = {name: {part: ms / took for part, ms in used.items()} for name, (took, used) in resting.items()}
    blocks: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    errors = 0
    for _ in range(CPU_BLOCKS):
        for name, side in sides.items():
            side.service.settle()
            samples = Samples()

            def work(name: str = name, samples: Samples = samples) -> None:
                paced(samples, CPU_RUNS, CPU_GAP_S, lambda: clients[name].run(request))
                time.sleep(REFILLED_S)

            took, used = _used(side, work)
            blocks[name].append({part: (used[part] - idle[name][part] * took) / CPU_RUNS for part in used})
            errors += samples.errors
    for client in clients.values():
        client.close()
    # Of neighbouring blocks, as others have the machine now more and now less.
    pairs = zip(blocks["socket"], blocks["amqp"], strict=True)
    ratios = [(amqp["api"] + amqp["worker"]) / (socket["api"] + socket["worker"]) for socket, amqp in pairs]
    share = round(median(ratios), 2)
    return {
        **{
            name: {part: round(median(block[part] for block in found), 2) for part in found[0]}
            for name, found in blocks.items()
        },
        "idle_ms_per_s": {name: {part: round(ms, 2) for part, ms in parts.items()} for name, parts in idle.items()},
        "ratio": share,
        "quartiles": _quartiles(ratios),
        "errors": errors,
        "bound": CPU_BOUND,
        "within": share <= CPU_BOUND,
    }


def _used(side: Side, work: Callable[[], None]) -> tuple[float, dict[str, float]]:
    """Return the seconds that something takes, and the milliseconds of CPU that the service uses meanwhile."""
    before, began = side.cpu_ms(), time.monotonic()
    work()
    return time.monotonic() - began, {part: ms - before[part] for part, ms in side.cpu_ms().items()}


def _traffic(remote: Service, rabbit: Broker) -> dict[str, float]:
    """Return the messages and bytes of a run at the broker, its announcements included."""
    client = remote.client()
    request = programs.body("python", programs.HELLO["python"])
    samples = Samples()
    before = rabbit.traffic()
    paced(samples, COUNTED_RUNS, CPU_GAP_S, lambda: client.run(request))
    after = rabbit.traffic()
    client.close()
    names = ("published", "delivered", "confirmed", "acknowledged", "bytes_in", "bytes_out")
    return {name: round((getattr(after, name) - getattr(before, name)) / len(samples.seconds), 2) for name in names}


def _workers(remote: Service, rabbit: Broker, seconds: float) -> dict[str, Any]:
    """Return the runs a second of programs that sleep, by one worker and by two, in turns."""
    request = programs.body("bash", SLEEP)
    rates: dict[str, list[float]] = {"one": [], "two": []}
    errors = 0

    def rate(name: str) -> None:
        nonlocal errors
        remote.settle()

        def step() -> Step:
            client = remote.client()
            return lambda: client.run(request)

        found = sustained(CLIENTS, seconds, step)
        rates[name].append(found.per_s)
        errors += found.samples.errors

    for _ in range(TURNS):
        rate("one")
        with _second_worker(remote, rabbit):
            rate("two")
    share = round(median(rates["two"]) / median(rates["one"]), 2)
    return {**rates, "ratio": share, "errors": errors, "bound": TWO_BOUND, "within": share >= TWO_BOUND}


@contextmanager
def _second_worker(remote: Service, rabbit: Broker) -> Iterator[None]:
    """Start a worker that has bash alone."""
    settings = SETTINGS | _place_of(remote, rabbit, 2) | {"LANGUAGES": "bash", "WARM_POOL": "bash=8"}
    settings["STORAGE_DIR"] = str(remote.state / "storage")
    state = remote.state.with_name(f"{remote.state.name}-2")
    state.mkdir(mode=0o755)
    worker = importlib.import_module(WORKERS).Worker(state, Path(settings.pop("IMAGES_DIR")), **settings)
    try:
        worker.wait_until_filled(60)
        time.sleep(crowd.SETTLED_S / 2)  # announced
        yield
    finally:
        worker.stop()
        worker.end()
        shutil.rmtree(state)


def _times(samples: Samples) -> dict[str, Any]:
    return {
        "samples": len(samples.seconds),
        "p50_ms": samples.ms(0.5),
        "p90_ms": samples.ms(0.9),
        "errors": samples.errors,
    }


def _quartiles(found: list[float]) -> list[float]:
    return [round(percentile(found, share), 2) for share in (0.25, 0.75)]
