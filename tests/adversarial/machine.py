"""Limits of the whole machine: what one run can take of each, and what it is told. docs/threat-model.md has the table.

Where gVisor answers, a program may take as much as it likes of what its own kernel has: that lies in the memory of the
sandbox. What the machine has of each must not move meanwhile (counters.py), so its expectations say how a run ends.
"""

from __future__ import annotations

from tests.adversarial.boundary import PYTHON, REFUSED
from tests.adversarial.rows import Case, on_gvisor

ROOMY = {"limits": {"memory_mb": 256, "timeout_ms": 8000, "pids": 128}}
#: `within(what, found, most)` prints "ok", or by how much a bound is passed.
PRELUDE = (
    PYTHON
    + """
import fcntl, struct, threading, time

def within(what, found, most):
    print("ok" if found <= most else f"{what}: {found} > {most}")

def until_refused(make, most=10**6):
    kept = []
    try:
        while len(kept) < most: kept.append(make())
    except OSError: pass
    return kept
"""
)
OK = frozenset({"ok"})
#: gVisor: the program takes what it wants and says how much, or is slow and out of time, or out of its own memory.
TAKEN = {"status": ("succeeded",), "lines": None}
SLOWLY = {"status": ("succeeded", "timeout", "oom"), "lines": None}
FULL = {"status": ("succeeded", "oom"), "lines": None}
DOCKER = "docker/runc"
KERNELS_BOUNDS = {"lines": OK | {"instances: 1000 > 128", "watches: 9000 > 8192"}}
#: The program is ended by the watch on file locks.
LOCKS = {"status": ("killed",), "lines": None}
#: gVisor: the machine has none of them, so the watch has nobody to end.
UNNOTICED = {"status": ("timeout", "oom")}
ONE_BYTE_LOCKS = (
    "def lock(fd, first, count):\n"
    "    for n in range(first + count, first, -1): fcntl.lockf(fd, fcntl.LOCK_EX, 1, 2 * n)\n"
)


def refused(code: str) -> Case:
    return Case("python", PRELUDE + code, lines=REFUSED, on=on_gvisor(TAKEN))


def bounded(code: str, **more) -> Case:
    return Case("python", PRELUDE + code, **({"lines": OK, "job": ROOMY, "on": on_gvisor(TAKEN)} | more))


CASES: dict[str, Case] = {
    # -- what is held by all sandboxes' own filters ------------------------------------------------
    "programs for sockets": refused(
        "code = (ctypes.c_ulonglong * 4096)(*[6] * 4096)\n"
        "program = struct.pack('HxxxxxxQ', 4096, ctypes.addressof(code))\n"
        "u, t = socket.socket(2, 2), socket.socket(2, 1)\n"
        "for option in (26, 50, 51, 52):\n"
        "    for one in (u, t): attempt(one.setsockopt, 1, option, program)\n"
        "for high in (0, 1 << 32, 0xdeadbeef << 32):\n"
        "    args = [ctypes.c_ulong(a) for a in (u.fileno(), high | 1, high | 26)]\n"
        "    c('syscall', 54, *args, program, ctypes.c_ulong(16))\n"
    ),
    "filters of a program's own": refused(
        "code = (ctypes.c_ulonglong * 4096)(*[0x7fff000000000006] * 4096)\n"
        "program = struct.pack('HxxxxxxQ', 4096, ctypes.addressof(code))\n"
        "for high in (0, 1 << 32): c('syscall', 157, ctypes.c_ulong(high | 22), 2, program, 0, 0)\n"
        "c('syscall', 317, 1, 0, program)\n"
    ),
    # -- locks that all network namespaces share ---------------------------------------------------
    "memberships": refused(
        "a, b = socket.socket(2, 2), socket.socket(10, 2)\n"
        "four = socket.inet_aton('224.1.2.3') + socket.inet_aton('127.0.0.1')\n"
        "six = socket.inet_pton(10, 'ff02::77') + struct.pack('I', 1)\n"
        "for option in (35, 36, 39, 42, 46): attempt(a.setsockopt, 0, option, four)\n"
        "for option in (20, 21, 27, 42, 46): attempt(b.setsockopt, 41, option, six)\n"
    ),
    "questions to all interfaces": refused(
        "s, b = socket.socket(2, 2), socket.socket(10, 2)\n"
        "for request in (0x8912, 0x8915, 0x8919, 0x891b, 0x8946, 0x8954):\n"
        "    attempt(fcntl.ioctl, s, request, struct.pack('16s240x', b'lo'))\n"
        "attempt(s.getsockopt, 0, 41, 64); attempt(s.getsockopt, 0, 48, 200); attempt(b.getsockopt, 41, 48, 200)\n"
    ),
    "time stamps and encapsulation": refused(
        "u = socket.socket(2, 2)\n"
        "for option in (29, 35, 37, 63, 64, 65): attempt(u.setsockopt, 1, option, 1)\n"
        "for option in (100, 104): attempt(u.setsockopt, 17, option, 1)\n"
    ),
    # -- modules of the host's kernel --------------------------------------------------------------
    "sockets of other protocols": refused(
        "for family in (2, 10):\n"
        "    for kind in (1, 2, 3):\n"
        "        for protocol in (1, 2, 33, 58, 132, 136, 143, 262): attempt(socket.socket, family, kind, protocol)\n"
        "for high in (0, 1 << 32):\n"
        "    for kind, protocol in ((1, 262), (2, 136)):\n"
        "        c('syscall', 41, *(ctypes.c_ulong(a) for a in (2, kind, high | protocol)))\n"
    ),
    "line disciplines": refused(
        "main, end = os.openpty()\n"
        # PPP, HDLC, GSM, and one that every kernel has.
        "for number in (3, 13, 21, 27):\n"
        "    for high in (0, 1 << 32):\n"
        "        c('syscall', 16, end, ctypes.c_ulong(high | 0x5423), ctypes.byref(ctypes.c_int(number)))\n"
    ),
    "huge pages": refused(
        "libc.syscall.restype = ctypes.c_long\n"
        "for high in (0, 21 << 26, 30 << 26):\n"
        "    c('syscall', 9, None, ctypes.c_ulong(1 << 30), 3, ctypes.c_ulong(high | 0x40022), ctypes.c_long(-1), 0)\n"
        "    c('syscall', 319, b'x', ctypes.c_ulong(high | 4))\n"
    ),
    # -- memory that is charged to nobody ----------------------------------------------------------
    "file locks": bounded(
        ONE_BYTE_LOCKS + "import resource\nfor _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(900): lock(os.memfd_create('x'), 0, 600)\n"
        "        time.sleep(9); os._exit(0)\ntime.sleep(9)\n",
        on=on_gvisor(UNNOTICED),
        **LOCKS,
    ),
    "file locks on the inode of all events": bounded(
        ONE_BYTE_LOCKS + "lock(os.eventfd(0), 0, 64_000)\ntime.sleep(9)\n",
        # There is no such inode, nor a lock on it.
        on=on_gvisor({"status": ("failed",), "contains": ("No locks available",)}),
        **LOCKS,
    ),
    "file locks whose maker is gone": bounded(
        ONE_BYTE_LOCKS
        + "fds = [os.memfd_create('x') for _ in range(40)]\n"
        # CLONE_FILES and SIGCHLD: the child's locks belong to what both share, and stay when it ends.
        "if libc.syscall(56, 0x400 | 17, 0, 0, 0, 0) == 0:\n"
        "    for fd in fds: lock(fd, 0, 600)\n"
        "    os._exit(0)\ntime.sleep(9)\n",
        on=on_gvisor(UNNOTICED),
        **LOCKS,
    ),
    "locks of an open file, leases": refused(
        "fd = os.memfd_create('x')\n"
        "for command in (36, 37, 38): attempt(fcntl.fcntl, fd, command, struct.pack('hhqqi4x', 1, 0, 0, 1, 0))\n"
        "attempt(fcntl.fcntl, fd, 1024, 1); attempt(fcntl.fcntl, fd, 1026, 1)\n"
    ),
    "buffers of TCP": bounded(
        "listener = socket.create_server(('127.0.0.1', 0)); kept = []\n"
        "while len(kept) < 400:\n"
        "    a = socket.create_connection(listener.getsockname()); b = listener.accept()[0]\n"
        "    a.setsockopt(1, 7, 1 << 22); b.setsockopt(1, 8, 1 << 22); a.setblocking(False); kept += [a, b]\n"
        "    try:\n        while a.send(bytes(1 << 20)): pass\n    except OSError: pass\n"
        "held = sum(m[0] + m[5] for s in kept for m in [struct.unpack('9I', s.getsockopt(1, 55, 36))])\n"
        "within('TCP', held >> 20, 40)\n",
        on=on_gvisor(FULL),
    ),
    "buffers of UDP": bounded(
        "kept = []\n"
        "for _ in range(600):\n"
        "    s = socket.socket(2, 2); s.bind(('127.0.0.1', 0)); s.setsockopt(1, 8, 1 << 22); s.setblocking(False)\n"
        "    kept.append(s)\n"
        "    try:\n        for _ in range(140): s.sendto(bytes(60000), s.getsockname())\n    except OSError: pass\n"
        "within('UDP', sum(struct.unpack('9I', s.getsockopt(1, 55, 36))[0] for s in kept) >> 20, 40)\n",
        on=on_gvisor(FULL),
    ),
    # -- counters of the machine -------------------------------------------------------------------
    "open files": bounded(
        "pids = []\nfor _ in range(20):\n    pid = os.fork()\n"
        "    if pid == 0:\n        os._exit(0 if len(until_refused(lambda: os.eventfd(0), 4096)) < 1024 else 1)\n"
        "    pids.append(pid)\n"
        "within('more than 1024', sum(os.waitpid(pid, 0)[1] for pid in pids), 0)\n"
        "most = int(open('/proc/sys/fs/file-max').read())\n"
        "print('ok' if most >= 32 * 512 * 1024 else most)\n",
        # A process has no more there either; of the machine's bound its /proc does not tell.
        on=on_gvisor({"status": ("succeeded", "failed")}),
    ),
    "terminals": bounded(
        "within('ptys', len(until_refused(lambda: os.open('/dev/ptmx', os.O_RDWR), 900)), 16)\n",
        on=on_gvisor(TAKEN),
    ),
    "files in flight": bounded(
        # Sent and not received: they are on nobody's list of open files.
        "import array\none = os.eventfd(0); kept = []; n = 0\n"
        "parcel = [(1, 1, array.array('i', [one] * 200))]\n"
        "for a, b in until_refused(socket.socketpair, 400):\n"
        "    kept.append((a, b)); a.setblocking(False)\n"
        "    try:\n"
        "        while n < 50_000: a.sendmsg([b'x'], parcel); n += 200\n"
        "    except OSError: pass\n"
        "within('in flight', n, 1024 + 200)\n",
        on=on_gvisor(TAKEN),
    ),
    "processes": bounded(
        "pids = []\ndef make():\n"
        "    pid = os.fork()\n    if pid == 0: time.sleep(9); os._exit(0)\n    return pid\n"
        "pids = until_refused(make, 1000); within('processes', len(pids), 128)\n"
        "for pid in pids: os.kill(pid, 9)\n",
        on=on_gvisor({"status": ("succeeded", "oom", "timeout", "killed"), "lines": None}),
    ),
    "timers": bounded(
        "one = ctypes.c_int()\ndef make():\n"
        "    if libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p())) != 0: raise OSError\n"
        "within('timers', len(until_refused(make, 99_999)), 1024)\n",
        on=on_gvisor(SLOWLY),
    ),
    "inotify": bounded(
        "def make():\n    fd = libc.inotify_init1(0)\n    if fd < 0: raise OSError\n    return fd\n"
        "fds = until_refused(make, 1000); within('instances', len(fds), 128)\n"
        "os.makedirs('w'); n = 0\n"
        "for k in range(9000):\n"
        "    path = f'w/{k}'; open(path, 'w').close()\n"
        "    if libc.inotify_add_watch(fds[0], path.encode(), 2) < 0: break\n"
        "    n += 1\nwithin('watches', n, 8192)\n",
        # A slot's own uid has the kernel's bounds, whatever they are here; what it takes is charged to its memory.
        on=on_gvisor(TAKEN) | dict.fromkeys((DOCKER, "oci/crun", "oci/runc"), KERNELS_BOUNDS),
    ),
    "watches of epoll": bounded(
        # 250 000 take 48 MB, more than there is.
        "import select\nfds = until_refused(lambda: os.eventfd(0), 500)\n"
        "for e in until_refused(select.epoll, 500):\n"
        "    fds.append(e)\n"
        "    for fd in fds[:500]: e.register(fd, 1)\n",
        status=("oom",),
        lines=None,
        facts={"oom_killed": True},
        job={"limits": {"memory_mb": 32, "timeout_ms": 8000}},
        on=on_gvisor(SLOWLY | {"facts": {}}),
    ),
    "pages of pipes": bounded(
        "def make():\n    r, w = os.pipe(); size = fcntl.fcntl(w, 1031, 1 << 20); return size\n"
        "within('MiB', sum(until_refused(make, 500)) >> 20, 64)\n"
    ),
    "keys, queues, semaphores, namespaces, mounts, requests": refused(
        # Each with arguments that a kernel takes: SysV shared memory, semaphores, a queue; keys and keyrings; requests.
        "for call, *given in ((29, 0, 4096, 0o1600), (64, 0, 1, 0o1600), (68, 0, 0o1600), (248, b'user', b'x', b'y', 1, -2),\n"
        "    (250, 0, -3, 1), (206, 128, ctypes.byref(ctypes.c_ulong())), (425, 8, ctypes.create_string_buffer(120)),\n"
        "    (321, 0, struct.pack('4I', 2, 4, 64, 4096), 16), (165, b'x', b'/tmp', b'tmpfs', 0, None), (272, 0),\n"
        "    (300, 0, 0), (447, 0), (323, 1), (298, struct.pack('2I104x', 1, 112), 0, -1, -1, 0)): c('syscall', call, *given)\n"
        "c('mq_open', b'/x', 0o102, 0o600, None)\n"
        "for flag in (0x80, 0x20000, 0x10000000, 0x40000000): c('unshare', flag)\n"
    ),
    "names that are not there": bounded(
        "path = '/proc/sys/fs/dentry-state'\n"
        "def count(): return int(open(path).read().split()[0]) if os.path.exists(path) else None\n"
        "before = count(); began = time.monotonic(); n = 0\n"
        # Of the image, since a tmpfs does not remember them; 131 000 fit into the run's memory.
        "while n < 200_000 and time.monotonic() - began < 7:\n"
        "    os.path.exists(f'/usr/share/{n}'); n += 1\n"
        "if before is None: print('not told')\n"
        "else: within('dentries', count() - before, 160_000)\n",
        job={"limits": {"memory_mb": 24, "timeout_ms": 9000}},
        on=on_gvisor({"lines": {"not told"}}),
    ),
    "connections that are tracked": bounded(
        "path = '/proc/sys/net/netfilter/nf_conntrack_count'\n"
        "s = socket.socket(2, 2)\n"
        "for port in range(1, 2000): s.sendto(b'x', ('127.0.0.1', port))\n"
        "within('entries', int(open(path).read()) if os.path.exists(path) else 0, 0)\n"
    ),
}  # fmt: skip
