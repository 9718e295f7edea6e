"""What only a template can get wrong: what is shared by forking, and what happens when the template itself fails."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.job import JobFile
from tests.engines.test_contexts import opened
from tests.support.security_modules import APPARMOR
from tests.support.worker_sessions import WorkerSession
from tests.support.workers import Worker, until

RUNTIMES = ("crun", pytest.param("runc", marks=pytest.mark.slow))
#: Everything a program can see of others: processes, sockets, ipc objects, keys, mounts, locks, descriptors.
LOOK = """
import ctypes, fcntl, json, os, re
libc = ctypes.CDLL(None, use_errno=True)
seen = {"pids": sorted(int(n) for n in os.listdir("/proc") if n.isdigit())}
seen["descriptors"] = [n for n in range(1000) if os.path.lexists(f"/proc/self/fd/{n}")]
for name in ("net/unix", "sysvipc/shm", "locks", "keys"):
    try:
        seen[name] = open("/proc/" + name).read()
    except OSError as e:
        seen[name] = e.errno
seen["mounts"] = [line.split()[4] for line in open("/proc/self/mountinfo")]
seen["kill"] = []
for pid in range(3, 40_000):
    try:
        os.kill(pid, 0)
        seen["kill"].append(pid)
    except (ProcessLookupError, PermissionError):
        pass
seen["read"] = []
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/fd", "/proc/1/root"):
    try:
        open(path, "rb").close() if not path.endswith(("fd", "root")) else os.listdir(path)
        seen["read"].append(path)
    except OSError:
        pass
seen["ptrace"] = libc.ptrace(16, 1, None, None)
seen["inodes"] = [(p, os.stat(p).st_dev, os.stat(p).st_ino) for p in ("/dev/null", "/usr/bin/env", "/work", "/tmp")]
# AppArmor lets no sandbox list them.
names = ("ipc", "mnt", "net", "pid", "user", "uts")
seen["namespaces"] = {n: os.readlink(f"/proc/self/ns/{n}") for n in names}
print(json.dumps(seen))
"""


class Started:
    """Workers on templates, each ended and looked behind."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.workers: list[Worker] = []

    def __call__(self, **settings: str) -> Worker:
        worker = self.begin(**settings)
        worker.wait_until_filled(90)
        return worker

    def begin(self, prepare: Callable[[Path], None] = lambda _state: None, **settings: str) -> Worker:
        """Start one on a state directory that is prepared so, and wait for nothing."""
        state = Path(tempfile.mkdtemp(prefix="runyard-test-", dir="/var/lib"))
        state.chmod(0o755)
        prepare(state)
        settings = {"ENGINE": "oci", "RUNTIME": "crun", "LANGUAGES": "python", "WARM_POOL": "python=1"} | settings
        settings = {"SANDBOX_SOURCE": "template", "UID_BASE": str(0x7A00_0000)} | settings
        worker = Worker(state, self.images, **settings)
        self.workers.append(worker)
        return worker

    def end(self) -> None:
        for worker in self.workers:
            try:
                worker.stop()
                assert worker.groups() == []
                assert "Traceback" not in worker.log.read_text()
            finally:
                worker.end()
                shutil.rmtree(worker.state)


@pytest.fixture
def start(service):
    """A worker of the test's own."""
    started = Started(service.images)
    yield started
    started.end()


@pytest.fixture(scope="module", params=RUNTIMES)
def worker(service, request):
    """One worker for every test that does it no harm."""
    started = Started(service.images)
    yield started(RUNTIME=request.param)
    started.end()


def run(worker, code, **fields):
    result = worker.run(code=code, **fields)
    assert result["status"] == "succeeded", result
    assert result["isolation"]["source"] == "template", result["isolation"]
    return result["stdout"]


def templates(worker) -> set[str]:
    """The names of its templates' control groups."""
    return {group.name for group in worker.groups() if group.name.startswith("template-")}


def template_process(worker, name) -> int:
    """The host's pid of the process that forks: the one that is not PID 1 of the container."""
    for group in worker.groups():
        if group.name == name:
            for pid in map(int, (group / "cgroup.procs").read_text().split()):
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^NSpid:.*\s30000$", status, re.MULTILINE):
                    return pid
    raise AssertionError(f"{name} has no template in it")


def test_two_children_share_nothing_but_what_is_read_only(worker):
    seen = []
    gate = threading.Barrier(2)

    def go():
        gate.wait()
        hold = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0runyard-mark'); import time\n"
        seen.append(json.loads(run(worker, hold + LOOK + "\ntime.sleep(2)")))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    one, two = seen  # both bound the same abstract name at the same time
    for look in seen:
        assert look["pids"] == [1, 2]
        assert look["kill"] == []
        assert look["read"] == []
        assert look["ptrace"] == -1
        assert look["descriptors"] == [0, 1, 2, 3]  # 3 is the socket of its own
        assert len(re.findall("@", look["net/unix"])) == 1
        # AppArmor lets no sandbox read them.
        assert look["locks"] in ("", errno.EACCES)
        assert look["keys"] in ("", errno.EACCES)
        assert look["mounts"] == one["mounts"]
    inodes = [{tuple(item) for item in look["inodes"]} for look in seen]
    assert inodes[0].isdisjoint(inodes[1])
    shared = {name for name, value in one["namespaces"].items() if value == two["namespaces"][name]}
    assert shared == set()
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in one["namespaces"]}
    assert {name for name in ours if ours[name] == one["namespaces"][name]} == set()


@pytest.mark.skipif(APPARMOR, reason="AppArmor refuses every lock on a file of the image")
def test_a_lock_and_a_watch_of_one_run_are_not_seen_by_another(worker):
    code = """
import fcntl, os, time
for path in ("/dev/null", "/usr/bin/env", "/etc/passwd"):
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
time.sleep(2)
print("held")
"""
    found = []
    threads = [threading.Thread(target=lambda: found.append(run(worker, code))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["held\n", "held\n"]


def test_one_run_does_not_use_up_what_another_may_have(worker):
    """Inotify instances, which the kernel counts for a namespace's owner too."""
    code = """
import ctypes, time
libc = ctypes.CDLL(None)
made = 0
while libc.inotify_init() >= 0:
    made += 1
print(made, flush=True)
time.sleep(2)
"""
    made = []
    threads = [threading.Thread(target=lambda: made.append(int(run(worker, code)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 3
    assert min(made) >= 100


@pytest.mark.skipif(APPARMOR, reason="AppArmor lets no program read its memory as a file")
def test_a_mark_left_in_memory_is_not_found_by_the_next(worker):
    mark = "bb0c9a2e" * 4
    run(worker, f"x = [bytes.fromhex('{mark}') * 4096 for _ in range(64)]; import sys; sys.mark = x; print(1)")
    look = f"""
mark = bytes.fromhex('{mark[:16]}') + bytes.fromhex('{mark[16:]}')
found = 0
for line in open("/proc/self/maps"):
    place, rights = line.split()[:2]
    if "r" not in rights or "[v" in line:
        continue
    first, last = (int(part, 16) for part in place.split("-"))
    with open("/proc/self/mem", "rb", 0) as memory:
        memory.seek(first)
        found += memory.read(last - first).count(mark)
print(found > 1000)
"""
    assert run(worker, look) == "False\n"
    # The look itself finds what is there.
    assert run(worker, "kept = bytes.fromhex('bb0c9a2e') * 40_000\n" + look) == "True\n"


DRAWS = """
import hashlib, json, os, random, secrets, ssl, sys, tempfile, uuid
{imports}
drawn = [random.random(), secrets.token_hex(8), str(uuid.uuid4()), os.urandom(8).hex(), ssl.RAND_bytes(8).hex()]
drawn += [next(tempfile._get_candidate_names())]
{more}
print(json.dumps(drawn))
"""


@pytest.mark.parametrize(
    ("imports", "more"),
    [("", ""), ("import numpy, pandas", "drawn += [numpy.random.rand(), numpy.random.default_rng().random()]")],
    ids=["bare", "science"],
)
def test_every_run_draws_different_random_numbers(worker, imports, more):
    code = DRAWS.format(imports=imports, more=more)
    draws = [json.loads(run(worker, code, limits={"memory_mb": 512})) for _ in range(4)]
    for column in zip(*draws, strict=True):
        assert len(set(column)) == len(draws), column


def test_programs_that_fork_spawn_and_thread(worker):
    code = """
import multiprocessing, subprocess, threading
import numpy, matplotlib.pyplot as plt
def square(x):
    return float((numpy.eye(200) * x @ numpy.eye(200)).trace()) ** 2
if __name__ == "__main__":
    for how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(2) as pool:
            print(how, pool.map(square, [1, 2]))
    found = []
    threads = [threading.Thread(target=lambda: found.append(square(1))) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    print(len(found), subprocess.run(["echo", "out"], capture_output=True, text=True).stdout.strip())
    large = numpy.random.rand(700, 700)
    print(bool(numpy.isfinite(large @ large).all()))
    plt.plot([1, 2]); plt.savefig("/work/outputs/plot.png")
"""
    result = worker.run(code=code, limits={"memory_mb": 1024, "timeout_ms": 60_000, "pids": 128})
    assert result["stdout"].split("\n")[:4] == [
        "fork [40000.0, 160000.0]",
        "spawn [40000.0, 160000.0]",
        "4 out",
        "True",
    ], result
    assert [artifact["path"] for artifact in result["artifacts"]] == ["plot.png"]


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "import os, pandas; raise SystemExit(3)"])
def test_the_end_of_a_program_is_its_own(worker, code):
    kept = "class C:\n    def __del__(self): print('gone', flush=True)\nc = C()\nimport atexit; atexit.register(print, 'bye')\n"
    result = worker.run(code=kept + code, limits={"memory_mb": 512})
    assert (result["exit_code"], result["stdout"]) == (3, "bye\ngone\n")


@pytest.mark.parametrize("imports", ["ctypes, os, sys", "ctypes, os, pandas, sys"])
def test_after_the_last_line_python_is_not_taken_apart(worker, imports):
    """It would be long gone when C calls its exit handlers."""
    code = f"""
import {imports}
kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)
sys.handler = kind(lambda status, _, write=os.write: write(1, b"still here, %d" % status))
ctypes.CDLL(None).on_exit(sys.handler, None)
"""
    assert run(worker, code, limits={"memory_mb": 512}) == "still here, 0"


def test_the_root_is_listed_as_an_overlay_and_without_a_place_of_the_host(worker, service):
    listed = run(worker, "print(*(line for line in open('/proc/self/mountinfo') if line.split()[4] == '/'))")
    assert " - overlay overlay ro,lowerdir=" in listed
    assert str(service.images) not in listed


def test_to_refer_to_what_the_template_has_made_copies_none_of_it(worker):
    """What it has made is immortal, so that a reference is not counted; what the program makes ends as ever."""
    code = """
import gc, pandas, re, sys, weakref

def copied_kib():
    return int(re.search(r"Private_Dirty:\\s+(\\d+)", open("/proc/self/smaps_rollup").read())[1])

modules = list(sys.modules.values())
before = copied_kib()
for module in modules:
    for thing in vars(module).values():
        other = thing, thing
print(copied_kib() - before)
main = sys.modules["__main__"]
print(max(sys.getrefcount(main), sys.getrefcount(main.__dict__)) < 1000)

class C: pass

c = C()
c.itself, end = c, weakref.ref(c)
del c
gc.collect()
print(end() is None)
"""
    copied_kib, *mortal = run(worker, code, limits={"memory_mb": 512}).split()
    assert int(copied_kib) < 512
    assert mortal == ["True", "True"]


def test_a_file_of_the_programs_own_is_imported_before_a_library(worker):
    files = (JobFile("numpy.py", b"mine = 'the program\\'s own'\n"),)
    assert run(worker, "import numpy; print(numpy.mine)", files=files) == "the program's own\n"


def test_a_container_can_be_asked_for(worker):
    result = worker.run(code="print(1)", isolation="container")
    assert (result["stdout"], result["isolation"]["source"]) == ("1\n", "cold")


@pytest.mark.parametrize(
    ("runtime", "how"),
    [
        ("crun", signal.SIGKILL),
        pytest.param("runc", signal.SIGKILL, marks=pytest.mark.slow),
        ("crun", signal.SIGSTOP),
    ],
    ids=["crun-dies", "runc-dies", "crun-hangs"],
)
def test_a_template_that_ends_or_hangs_costs_no_run_its_result(start, runtime, how):
    worker = start(RUNTIME=runtime)
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(worker.run(code="import time; time.sleep(3); print('done')"))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    until(lambda: worker.dispatcher.status()["queue"]["running"] == 2, 30)
    before = templates(worker)
    for template in before:
        os.kill(template_process(worker, template), how)
    # One that hangs is waited for: both flavours' at the same time.
    threads.append(threading.Thread(target=lambda: results.append(worker.run(code="import numpy; print('done')"))))
    threads[-1].start()
    results += [worker.run(code="print('done')") for _ in range(6)]
    for thread in threads:
        thread.join(60)
    assert [result["stdout"] for result in results] == ["done\n"] * 9, results
    for code in ("print(1)", "import numpy"):  # each flavour, down to those that the old one had made ready
        until(lambda code=code: worker.run(code=code)["isolation"]["source"] == "template", 60)

    def used():
        worker.run(code="import numpy")
        with opened(worker.dispatcher, "python"):  # the template of sessions is asked by them alone
            pass
        return templates(worker).isdisjoint(before)

    until(used, 60)


def test_a_template_killed_at_any_moment_costs_no_run_its_result(start):
    worker = start(WARM_POOL="python=0")
    results = []

    def go():
        results.extend(worker.run(code="print('done')") for _ in range(4))

    for moment in range(12):
        for _ in range(2):  # one that never worked would not be replaced at once
            until(lambda: worker.run(code="print(1)")["isolation"]["source"] == "template", 60)
        (template,) = templates(worker)
        process = template_process(worker, template)
        thread = threading.Thread(target=go)
        thread.start()
        time.sleep(moment * 0.0007)
        os.kill(process, signal.SIGKILL)
        thread.join(60)
    assert [result["stdout"] for result in results] == ["done\n"] * 48, results


def test_no_run_falls_between_a_template_and_its_successor(start):
    worker = start(TEMPLATE_RUNS="3")
    sources = []

    def go():
        sources.extend(worker.run(code="print(1)")["isolation"]["source"] for _ in range(15))

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sources == ["template"] * 45


def test_a_template_is_replaced_after_so_many_sandboxes(start):
    worker = start(TEMPLATE_RUNS="5")
    first = templates(worker)
    sources = [worker.run(code="print(1)")["isolation"]["source"] for _ in range(20)]
    assert set(sources) == {"template"}

    # Those of the other two flavours are hardly worn; of the plain ones, no more than one and its successor are there. A worn one
    # stays until the last sandbox forked from it has gone, and where its successor takes longer than the runs above,
    # one of these waits in the pool: another run has to take it.
    def is_replaced() -> bool:
        worker.run(code="print(1)")
        return len(templates(worker) & first) == 2 and len(templates(worker)) <= 4

    until(is_replaced, 60)


def test_three_generations_of_the_templates_of_sessions_are_alive_at_most(start):
    """The plain templates stay two. A waiting sandbox is one more that lives of a generation."""
    worker = start(KERNEL_TEMPLATE_HOURS=str(1 / 3600), TEMPLATE_RUNS="1000")
    assert len(templates(worker)) == 3
    with contextlib.ExitStack() as stack:

        def one_more() -> WorkerSession:
            session = stack.enter_context(opened(worker.dispatcher, "python"))
            session.run("x = 42")
            time.sleep(1.1)  # its template is then too old
            return session

        first = one_more()

        def is_settled() -> bool:
            before = templates(worker)
            one_more()
            return len(before) == 5 and templates(worker) == before

        until(is_settled, 60)
        alive = templates(worker)
        for _ in range(3):
            one_more()
            assert templates(worker) == alive
        done = first.run("import numpy; x + numpy.int64(0)")
        assert (done["results"][0]["text"], done["state"]) == ("np.int64(42)", "kept")

    def are_gone() -> bool:
        with opened(worker.dispatcher, "python"):  # takes the one that waits
            return len(templates(worker) & alive) <= 3 and len(templates(worker)) <= 4

    until(are_gone, 60)


def test_a_template_out_of_memory_is_replaced(start):
    """Its own group's bound is lowered to what it has, so that it cannot fork; what the kernel makes of it."""
    worker = start()
    before = templates(worker)
    for group in worker.groups():
        for bound, usage in (("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")):
            if group.name in before and (group / bound).exists():
                with contextlib.suppress(OSError):  # EBUSY: it was not taken in time
                    (group / bound).write_text((group / usage).read_text())
    assert [worker.run(code="print(1)")["stdout"] for _ in range(30)] == ["1\n"] * 30
    until(lambda: worker.run(code="print(1)")["isolation"]["source"] == "template", 60)


def test_a_worker_that_stops_does_not_wait_for_a_template_that_boots(start):
    """Pandas takes a second or more to import; nothing of its template is left either, as after each test here."""
    worker = start.begin()
    until(lambda: "worker serves" in worker.log.read_text() and len(templates(worker)) >= 2, 90)
    assert worker.stop() == 0
    said = worker.log.read_text()
    ready = [flavour for flavour in ("science", "kernel") if f'"flavour":"{flavour}"' in said]
    assert len(ready) < 2, "one was killed before it was ready"
    assert "containers serve instead" not in said


def test_where_each_key_has_its_own_only_its_runs_share_a_layout(start):
    """A first run gets a container, and has the key's template booted behind it."""
    worker = start(TEMPLATE_SCOPE="key", WARM_POOL="python=2")
    look = "import ctypes; print(hash('x'), ctypes.cast(ctypes.CDLL('libc.so.6').getenv, ctypes.c_void_p).value)"
    assert worker.run(code=look, key="a")["isolation"]["source"] in ("pool", "cold")
    shared = {}
    for key in ("a", "b"):
        until(lambda key=key: worker.run(code=look, key=key)["isolation"]["source"] == "template", 30)
        shared[key] = {worker.run(code=look, key=key)["stdout"] for _ in range(3)}
    assert [len(seen) for seen in shared.values()] == [1, 1]
    (hash_a, place_a), (hash_b, place_b) = (next(iter(seen)).split() for seen in shared.values())
    assert hash_a != hash_b
    assert place_a != place_b
    assert len(templates(worker)) == 2


def test_the_key_that_has_not_run_for_longest_loses_its_template(start):
    worker = start(TEMPLATE_SCOPE="key", TEMPLATE_KEYS="1")
    for key in ("a", "b", "a"):
        until(lambda key=key: worker.run(code="print(1)", key=key)["isolation"]["source"] == "template", 30)
        assert len(templates(worker)) == 1
