"""Runs beside each other and after each other: none is disturbed by another, none finds anything of another."""

from __future__ import annotations

import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("invariants")
BOMBS = {
    "forks": ("bash", ":(){ :|:& };:; sleep 9"),
    "threads": ("python", "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(9,)).start()\n    except RuntimeError: pass"),
    "heap": ("python", "x = []\nwhile True: x.append(b'x' * 10**6)"),
    "output": ("bash", "yes & yes >&2"),
    "processors": ("bash", "for n in {1..60}; do while :; do :; done & done; wait"),
}  # fmt: skip
OF_VERSION_2 = Path("/sys/fs/cgroup/cgroup.stat")
ENDED = {"succeeded", "failed", "timeout", "oom", "killed"}
LEAVE = """
import ctypes, fcntl, os, subprocess, time
for place in ('/work', '/tmp', '/dev/shm'):
    open(place + '/left', 'w').write('secret')
os.mkfifo('/tmp/pipe')
libc = ctypes.CDLL(None)
libc.shmget(1234, 4096, 0o1666)
libc.mq_open(b'/left', 0o102, 0o600, None)
fcntl.flock(open('/dev/null'), fcntl.LOCK_EX)
fcntl.flock(open('/usr/bin/env'), fcntl.LOCK_EX)
subprocess.Popen(['sleep', '99'], start_new_session=True)
print(os.getpid(), flush=True)
time.sleep({hold})
"""
LOOK = """
import ctypes, fcntl, glob, os
print([path for path in glob.glob('/work/*') + glob.glob('/tmp/*') + glob.glob('/dev/shm/*') if 'left' in path or 'pipe' in path])
libc = ctypes.CDLL(None)
print(libc.shmget(1234, 4096, 0), libc.mq_open(b'/left', 0))
for path in ('/dev/null', '/usr/bin/env'):
    fcntl.flock(open(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
print(b'sleep' in b''.join(open(path, 'rb').read() for path in glob.glob('/proc/[0-9]*/cmdline')))
print(sum(line.startswith('sysvipc') for line in open('/proc/filesystems')))
"""
NOTHING = "[]\n-1 -1\nFalse\n0\n"


def test_nothing_is_found_of_the_run_before(service):
    assert service.run("python", LEAVE.replace("{hold}", "0"))["status"] == "succeeded"
    for _ in range(5):  # whichever slot is taken next
        assert service.run("python", LOOK)["stdout"] == NOTHING


def test_nothing_is_found_of_a_run_beside(service):
    """Locks and watches on a shared inode would be a channel: each sandbox has its own."""
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(service.run, "python", LEAVE.replace("{hold}", "4"))
        time.sleep(0.5)
        assert service.run("python", LOOK)["stdout"] == NOTHING
        assert not beside.done()
        assert beside.result()["status"] == "succeeded"


def test_one_runs_quotas_of_the_kernel_are_not_anothers(service):
    """inotify instances, pipe pages and pending signals are counted per uid, and up the tree of user namespaces."""
    take = (
        "import ctypes, os, fcntl, time\nlibc = ctypes.CDLL(None)\nn = 0\n"
        "while n < 600 and libc.inotify_init1(0) >= 0: n += 1\n"
        "print('took' if n else 'none', flush=True)\ntime.sleep({hold})"
    )
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(service.run, "python", take.replace("{hold}", "3"))
        time.sleep(1)
        assert service.run("python", take.replace("{hold}", "0"))["stdout"] == "took\n"
        assert beside.result()["stdout"] == "took\n"


def lingering():
    """Memory groups that the kernel has and that have no directory any more."""
    if OF_VERSION_2.exists():
        return int(re.search(r"^nr_dying_descendants (\d+)", OF_VERSION_2.read_text(), re.MULTILINE)[1])
    count = next(
        line.split()[2] for line in Path("/proc/cgroups").read_text().splitlines() if line[:7] == "memory\t"
    )
    return int(count) - sum(1 for _ in os.walk("/sys/fs/cgroup/memory"))


def test_groups_of_runs_that_read_what_nobody_has_read_do_not_stay(service):
    """Each is charged for the pages, which keep its group in memory after it was removed."""
    (layer,) = service.images.glob("python-*/diff/usr/local/lib")
    found = (path for path in layer.rglob("*.py") if path.is_file() and path.stat().st_size > 8192)
    files = sorted(found)[-120:]
    assert len(files) == 120
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = lingering()
    for path in files:
        code = f"print(len(open('/usr/local/lib/{path.relative_to(layer)}', 'rb').read()))"
        assert service.run("python", code)["stdout"] == f"{path.stat().st_size}\n"
    time.sleep(1)
    assert lingering() - before < 100


@pytest.mark.parametrize("kind", BOMBS)
def test_a_neighbour_of_bombs_is_answered(service, kind):
    language, code = BOMBS[kind]
    with ThreadPoolExecutor(8) as pool:
        bombs = [pool.submit(service.run, language, code, limits={"timeout_ms": 2000}) for _ in range(6)]
        answers = [service.run("bash", f"echo {n}")["stdout"] for n in range(5)]
        assert answers == [f"{n}\n" for n in range(5)]
        assert {bomb.result()["status"] for bomb in bombs} <= ENDED


@pytest.mark.timeout(300)
def test_fifty_bombs_beside_twenty_hellos(service):
    """None is refused but for want of a place, or beyond its key's share, and then it is told to come again; every
    hello is answered.
    """
    kinds = list(BOMBS.values())

    def bomb(number):
        language, code = kinds[number % len(kinds)]
        reply = service.post(
            "/v1/runs",
            json={"language": language, "code": code, "limits": {"timeout_ms": 1000}},
            token=service.other_token,
        )
        assert reply.status in (200, 429, 503), reply.body
        if reply.status != 200:
            assert int(reply.headers["retry-after"]) >= 1
            return "refused"
        return reply.body["status"]

    took = []

    def hello(number):
        began = time.monotonic()
        assert service.run("python", f"print({number})")["stdout"] == f"{number}\n"
        took.append(time.monotonic() - began)

    with ThreadPoolExecutor(70) as pool:
        bombs = [pool.submit(bomb, number) for number in range(50)]
        hellos = [pool.submit(hello, number) for number in range(20)]
        for one in hellos:
            one.result()
        statuses = [one.result() for one in bombs]
    assert set(statuses) <= ENDED | {"refused"}
    # Another key's fifty do not come first: half of these have not waited for the last of them.
    assert statistics.median(took) < 60
