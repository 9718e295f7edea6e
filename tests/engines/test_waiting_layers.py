"""Sandboxes that wait with a layer of packages, on templates: which wait, whom they serve, and when they end."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from sandbox.images import ImageStore
from tests.engines.test_layers import put_layer
from tests.engines.test_templates import Started, template_process, templates
from tests.support.workers import Worker, until

#: Prints the module's value, and for how long PID 1 of the sandbox has lived, in seconds.
CODE = """
import os, tiny
began = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
print(tiny.x, float(open("/proc/uptime").read().split()[0]) - began)
"""
#: A sandbox that has waited for this long was not made for the run.
WAITED_S = 0.5


def request(name: str) -> tuple[str, ...]:
    return (f"{name}==1.0",)


@pytest.fixture
def start(service):
    """Start workers on layers that lie there at their start; each layer is the facts that differ, with `x` of its
    module, and `pth` for a `.pth` file.
    """
    images = service.images
    started = Started(images)

    def with_layers(*layers: dict[str, object], **settings: str) -> Worker:
        def put_layers(state: Path) -> None:
            image = ImageStore(images).get("python").digest
            for layer in layers:
                facts = dict(layer)
                files = {"python/tiny.py": b"x = %d\n" % facts.pop("x")}
                if "pth" in facts:
                    files["python/tiny.pth"] = facts.pop("pth")
                put_layer(state, image, files=files, **facts)

        worker = started.begin(put_layers, **({"PACKAGES": "any", "MEMORY_BUDGET_MB": "2048"} | settings))
        worker.wait_until_filled(90)
        return worker

    yield with_layers
    started.end()


def layer(name: str, x: int, **facts: object) -> dict[str, object]:
    return {"id": f"lay_{name}", "request": request(name), "x": x} | facts


def waiting(worker) -> int:
    """The number of layers of which a sandbox waits."""
    found = worker.dispatcher.status()["pool"].get("python/packages", {"ready": 0, "size": 0})
    return found["ready"] if found["ready"] == found["size"] else -1


def run(worker, name, **fields) -> tuple[int, float]:
    """Run with a layer: its module's value, and the seconds for which the sandbox has lived."""
    ended = worker.run(code=CODE, packages=request(name), **fields)
    assert ended["status"] == "succeeded", ended
    assert ended["isolation"]["source"] == "template", ended
    value, age = ended["stdout"].split()
    return int(value), float(age)


def run_waited(worker, name, **fields) -> int:
    """Run with a layer, of which a sandbox must have waited."""
    time.sleep(WAITED_S)
    value, age = run(worker, name, **fields)
    assert age >= WAITED_S * 0.9, f"a sandbox was made for the run: {age} s old"
    return value


def is_locked(worker, name) -> bool:
    """Whether somebody keeps the layer from removal."""
    fd = os.open(worker.state / "layers/store" / f"lay_{name}", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def misses(worker) -> float:
    found = re.search(
        r'^runyard_pool_misses_total\{language="python"\} (\S+)$', worker.dispatcher.metrics(), re.MULTILINE
    )
    return float(found[1]) if found else 0.0


def test_a_second_run_with_the_same_packages_gets_a_sandbox_that_waits(start):
    worker = start(layer("a", 1))
    _, age = run(worker, "a")
    assert age < WAITED_S
    before = misses(worker)
    for _ in range(3):
        until(lambda: waiting(worker) == 1)
        assert run_waited(worker, "a") == 1
    assert misses(worker) == before
    # A plain run has none of it.
    assert worker.run(code="import tiny")["status"] == "failed"


def test_one_that_waits_serves_one_run(start):
    worker = start(layer("a", 1))
    mark = "import tiny, os; print(os.path.exists('/work/mark')); open('/work/mark', 'w')"
    for _ in range(3):
        assert worker.run(code=mark, packages=request("a"))["stdout"] == "False\n"
        until(lambda: waiting(worker) == 1)


def test_one_that_waits_executes_nothing_of_its_layer(start):
    worker = start(layer("a", 1, pth=b"import sys, time, os; sys.began = (time.time(), os.getpid())\n"))
    look = CODE + "import sys, time\nprint(time.time() - sys.began[0], sys.began[1])\n"
    for _ in range(2):
        ended = worker.run(code=look, packages=request("a"))
        until(lambda: waiting(worker) == 1)
        time.sleep(2 * WAITED_S)
    first, second = ended["stdout"].splitlines()
    age, (since_s, pid) = float(first.split()[1]), second.split()
    assert age >= 2 * WAITED_S, ended
    assert float(since_s) < WAITED_S, "it was executed while the sandbox waited"
    assert int(pid) > 1


def test_a_layer_of_a_key_of_its_own_serves_no_other(start):
    """The request is the same, and each key's layer was built with code that was executed."""
    own = {"request": request("a"), "is_shared": False}
    worker = start(
        layer("one", 1, key="one", users=("one",), **own),
        layer("two", 2, key="two", users=("two",), **own),
    )
    assert [run(worker, "a", key=key)[0] for key in ("one", "two")] == [1, 2]
    until(lambda: waiting(worker) == 2)
    for _ in range(2):
        assert [run_waited(worker, "a", key=key) for key in ("one", "two")] == [1, 2]
        until(lambda: waiting(worker) == 2)


def test_so_many_layers_wait_and_the_least_recently_used_goes(start):
    worker = start(*(layer(name, place) for place, name in enumerate("abc")), WARM_LAYERS="2")
    for name in "ab":
        run(worker, name)
        until(lambda: waiting(worker) >= 1)
    until(lambda: waiting(worker) == 2)
    run(worker, "a")
    until(lambda: waiting(worker) == 2)
    run(worker, "c")
    until(lambda: not is_locked(worker, "b"))
    until(lambda: waiting(worker) == 2)
    # One plain sandbox, one of each variant, two with layers; and none is left of the one that has gone.
    pool = worker.dispatcher.status()["pool"]
    until(lambda: len({group.name for group in worker.run_groups()}) == sum(one["size"] for one in pool.values()))
    assert run_waited(worker, "a") == 0
    until(lambda: waiting(worker) == 2)
    assert run_waited(worker, "c") == 2


def test_none_waits_where_the_setting_is_zero(start):
    worker = start(layer("a", 1), WARM_LAYERS="0")
    for _ in range(2):
        time.sleep(WAITED_S)
        value, age = run(worker, "a")
        assert (value, age < WAITED_S * 0.9) == (1, True)
    until(lambda: not is_locked(worker, "a"))
    assert "python/packages" not in worker.dispatcher.status()["pool"]


def test_one_that_has_died_is_not_handed_out(start):
    worker = start(layer("a", 1))
    run(worker, "a")
    until(lambda: waiting(worker) == 1)
    for group in worker.run_groups():  # the plain ones too
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    assert run(worker, "a")[0] == 1
    until(lambda: waiting(worker) == 1)
    assert run_waited(worker, "a") == 1


def test_a_run_whose_sandbox_dies_before_it_has_read_the_job_gets_another(start):
    """Nothing of it was started. Stopped sandboxes look alive, and read nothing."""
    worker = start(layer("a", 1))
    run(worker, "a")
    until(lambda: waiting(worker) == 1)
    stopped = [int(pid) for group in worker.run_groups() for pid in (group / "cgroup.procs").read_text().split()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    found: list[dict] = []
    code = "import tiny; open('/work/outputs/x', 'w'); print(tiny.x, input())"
    submit = threading.Thread(
        target=lambda: found.append(worker.run(code=code, packages=request("a"), stdin="text\n"))
    )
    submit.start()
    until(lambda: waiting(worker) == -1)
    time.sleep(WAITED_S)  # the job lies in the socket
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)
    submit.join(60)
    assert (found[0]["status"], found[0]["stdout"]) == ("succeeded", "1 text\n"), found
    assert [artifact["name"] for artifact in found[0]["artifacts"]] == ["x"]
    phases = [data["name"] for kind, data, _ in found[0]["timeline"] if kind == "phase"]
    assert phases == ["run"]


def test_one_that_waits_goes_with_the_generation_of_its_template(start):
    """No run with packages comes any more: the worker itself ends it and forks another."""
    worker = start(layer("a", 1), TEMPLATE_RUNS="6")
    run(worker, "a")
    until(lambda: waiting(worker) == 1)
    first = templates(worker)

    def is_replaced() -> bool:
        worker.run(code="print(1)")
        return len(templates(worker) & first) == 2 and len(templates(worker)) <= 4

    until(is_replaced, 60)
    until(lambda: waiting(worker) == 1)
    assert run(worker, "a")[0] == 1


def test_a_template_that_dies_costs_no_run_with_packages_its_result(start):
    worker = start(layer("a", 1))
    run(worker, "a")
    until(lambda: waiting(worker) == 1)
    for name in templates(worker):
        os.kill(template_process(worker, name), signal.SIGKILL)
    for _ in range(4):
        ended = worker.run(code="import tiny; print(tiny.x)", packages=request("a"))
        assert ended["stdout"] == "1\n", ended


def test_they_take_no_places_of_plain_runs(start):
    """As many runs as may be active, each with another layer, and then as many plain ones at once."""
    worker = start(*(layer(name, place) for place, name in enumerate("abcd")), MAX_RUNS="4", WARM_LAYERS="4")
    for name in "abcd":
        run(worker, name)
    until(lambda: waiting(worker) == 4)
    found = []
    code = "import time; time.sleep(1); print(1)"
    threads = [threading.Thread(target=lambda: found.append(worker.run(code=code)["stdout"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["1\n"] * 4
    assert "no free slot" not in worker.log.read_text()


def test_with_templates_of_each_key_none_waits(start):
    worker = start(layer("a", 1), TEMPLATE_SCOPE="key", SANDBOX_SOURCE="auto")
    for _ in range(2):
        assert worker.run(code="import tiny; print(tiny.x)", packages=request("a"))["stdout"] == "1\n"
    time.sleep(1)
    assert "python/packages" not in worker.dispatcher.status()["pool"]
