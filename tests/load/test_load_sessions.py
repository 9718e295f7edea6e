"""512 sessions at once: the time to create them, the memory of one at rest, other keys meanwhile, and what is left.

RUNYARD_LOAD_SESSIONS is their number (512).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, Self

import pytest

from ops.state import StatePlace, cgroups
from tests.load.load_held import held, settle, until
from tests.support.own_service import OwnService, new_state
from tests.support.service import Service

NUMBER = int(os.environ.get("RUNYARD_LOAD_SESSIONS", "512"))
#: Of each language, in this order.
LANGUAGES = ("bash", "python")
#: Code that leaves something, and code that needs it: python keeps variables, a bash session its files.
LEAVE = {"bash": "echo 20 > x", "python": "x = 20"}
NEED = {"bash": "echo $(($(cat x) + 1))", "python": "print(x + 1)"}
#: Clients that create, use and delete at the same time.
CLIENTS = 4
UID_BASE = 0x7900_0000
SETTINGS = {
    "LANGUAGES": ",".join(LANGUAGES),
    "WARM_POOL": "bash=2,python=2",
    "MAX_SESSIONS": str(NUMBER),
}
#: They never end by themselves here, and are frozen at once.
SESSION = {"limits": {"memory_mb": 128, "pids": 32}, "freeze_after_s": 1, "idle_timeout_s": 3600}
#: MiB of one that is frozen, as the machine has less of them: the contract's bound is for python.
MOST_MB = 15.0
#: Percent of a core that all of them may use together while they are frozen. The contract has 1 for 300, which the
#: bench measures; this is for a machine that has other things to do.
IDLE_PERCENT, IDLE_S = 3.0, 20.0
#: Seconds after which the api has recorded what was used before.
SETTLED_S = 15.0
HELLO_S = 2.0
#: Of those at rest, so many are used within a minute, and none is refused.
USED = 60
FROZEN_WITHIN_S = 120.0
#: The making of the last ones must not take longer than that of the first: only a machine's noise is allowed for.
SLOWER = 4.0
#: What threads and connections may differ by, and MiB that an allocator keeps.
KEPT, SLACK_MB = 24, 48

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def loaded(service):
    """A service of this test's own."""
    state = new_state()
    own = OwnService(service, state, UID_BASE, **SETTINGS)
    try:
        yield own.up()
    finally:
        own.down()
        shutil.rmtree(state)


class Hellos:
    """Another key's runs, one after the other, while the block lasts."""

    def __init__(self, service: Service, within_s: float) -> None:
        self._service, self._within_s = service, within_s
        self.seconds: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.2):
            began = time.monotonic()
            reply = self._service.post(
                "/v1/runs", json={"language": "python", "code": "print(1)"}, token=self._service.other_token
            )
            assert (reply.status, reply.body["stdout"]) == (200, "1\n"), reply.body
            self.seconds.append(time.monotonic() - began)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Nineteen of twenty were answered in time: the machine has other things to do as well."""
        assert len(self.seconds) >= 5
        assert sorted(self.seconds)[len(self.seconds) * 95 // 100] <= self._within_s, self.seconds


def create(service: Service, language: str) -> tuple[str, float]:
    """A session that has been used once, and the seconds that its creation took."""
    began = time.monotonic()
    reply = service.post("/v1/sessions", json={"language": language, **SESSION})
    took = time.monotonic() - began
    assert reply.status == 201, reply.body
    path = f"/v1/sessions/{reply.body['id']}"
    run = service.post(f"{path}/runs", json={"code": LEAVE[language]})
    assert run.body["status"] == "succeeded", run.body
    return path, took


def use(service: Service, path: str) -> float:
    """The seconds of a run that needs what the first one has left."""
    language = service.get(path).body["language"]
    began = time.monotonic()
    run = service.post(f"{path}/runs", json={"code": NEED[language]})
    assert (run.status, run.body.get("stdout")) == (200, "21\n"), run.body
    return time.monotonic() - began


def count_frozen(service: Service) -> int:
    """The frozen sessions, by the list of the worker."""
    found, after = 0, ""
    while True:
        page = service.get(f"/v1/sessions?status=frozen&limit=100{after}").body
        found += len(page["data"])
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


def wait_until_frozen(service: Service, number: int) -> None:
    until(lambda: count_frozen(service) == number, lambda: f"{count_frozen(service)} are frozen", FROZEN_WITHIN_S)


def available_mb() -> float:
    """What programs could have of the machine's memory."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no MemAvailable")


def cpu_s(place: StatePlace) -> float:
    """Processor seconds of the service's sandboxes, and of its own processes."""
    folder = next(f for f in cgroups(place) if f.name == place.instance and "cpuacct" in str(f))
    inside = int((folder / "cpuacct.usage").read_text()) / 1e9
    return inside + sum(_process_s(pid) for pid in _own(place))


def idle_percent(place: StatePlace) -> float:
    """Percent of a core that the service uses while nothing is asked of it."""
    time.sleep(SETTLED_S)
    began, used_s = time.monotonic(), cpu_s(place)
    time.sleep(IDLE_S)
    return 100 * (cpu_s(place) - used_s) / (time.monotonic() - began)


def _own(place: StatePlace) -> list[int]:
    marks = (b"gunicorn", b"worker")
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                argv = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv[0].startswith(str(place.state_dir).encode()) and any(mark in argv for mark in marks):
                found.append(int(name))
    return found


def _process_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(seconds: list[float]) -> dict[str, int]:
    """Milliseconds."""
    ordered = sorted(seconds)
    return {"p50": round(median(ordered) * 1000), "p99": round(ordered[len(ordered) * 99 // 100] * 1000)}


def test_many_sessions_at_rest_and_nothing_is_left(loaded):
    place = StatePlace(loaded.state.resolve())
    for language in LANGUAGES:  # what is made once: templates, threads, connections
        path, _ = create(loaded, language)
        use(loaded, path)
        assert loaded.request("DELETE", path).status == 200
    settle(place)
    before = held(place)
    without_percent = idle_percent(place)
    paths: list[str] = []
    shown: dict[str, Any] = {}
    with ThreadPoolExecutor(CLIENTS) as clients:
        for language in LANGUAGES:
            memory_mb = available_mb()
            with Hellos(loaded, HELLO_S) as hellos:
                made = list(clients.map(lambda _, of=language: create(loaded, of), range(NUMBER // len(LANGUAGES))))
            hellos.check()
            paths += [path for path, _ in made]
            wait_until_frozen(loaded, len(paths))
            seconds = [took for _, took in made]
            each_mb = (memory_mb - available_mb()) / len(made)
            shown[language] = {"created_ms": figures(seconds), "memory_mb": round(each_mb, 1)}
            print(f"\n{language}: {shown[language]}, hello of another key: {figures(hellos.seconds)}")
            assert each_mb <= MOST_MB
            quarter = len(seconds) // 4
            assert median(seconds[-quarter:]) <= SLOWER * median(seconds[:quarter]), seconds

        more = loaded.post("/v1/sessions", json={"language": "bash", **SESSION})
        assert more.status == 503 or more.body["error"]["code"] == "too_many_sessions", more.body

        percent = idle_percent(place) - without_percent
        print(f"\nidle: {percent:.2f} % of a core")
        assert percent <= IDLE_PERCENT

        with Hellos(loaded, HELLO_S) as hellos:
            began = time.monotonic()
            thawed = list(clients.map(lambda path: use(loaded, path), paths[:: NUMBER // USED][:USED]))
            assert time.monotonic() - began <= 60
            time.sleep(2)
        hellos.check()
        print(f"\nused after a rest: {figures(thawed)}, hello of another key: {figures(hellos.seconds)}")

        with Hellos(loaded, HELLO_S) as hellos:
            began = time.monotonic()
            ended = list(clients.map(lambda path: loaded.request("DELETE", path).status, paths))
            deleted_s = time.monotonic() - began
        assert set(ended) == {200}
        print(f"\nall deleted in {deleted_s:.1f} s, hello of another key: {figures(hellos.seconds)}")
    settle(place)
    after = held(place)
    print(f"\n{before}\n{after}")
    assert after.exact == before.exact
    assert loaded.get("/v1/sessions?status=live").body["data"] == []
    for was, now in ((before.api, after.api), (before.worker, after.worker)):
        assert now.processes == was.processes
        assert now.threads <= was.threads + KEPT
        assert now.descriptors <= was.descriptors + NUMBER + KEPT  # the namespaces of slots, made when first needed
        assert now.memory_mb <= was.memory_mb + SLACK_MB
    # Every slot is free again.
    with ThreadPoolExecutor(CLIENTS) as clients:
        again = list(clients.map(lambda _: create(loaded, "bash")[0], range(NUMBER)))
        assert {loaded.request("DELETE", path).status for path in again} == {200}
    settle(place)
    assert held(place).exact == before.exact
