"""Attacks on what all tenants share, each by several runs at a time: data for the suite and for `make bench`."""

from __future__ import annotations

from tests.adversarial.machine import ONE_BYTE_LOCKS, PRELUDE

#: By name: runs at the same time, and the program of each.
ATTACKS: dict[str, tuple[int, str]] = {
    "socket filters": (
        2,
        PRELUDE
        + "code = (ctypes.c_ulonglong * 4096)(*[6] * 4096)\n"
        "program = struct.pack('HxxxxxxQ', 4096, ctypes.addressof(code))\n"
        "for _ in range(12):\n"
        "    if os.fork() == 0:\n"
        "        kept = []\n"
        "        for s in until_refused(lambda: socket.socket(2, 2), 1015):\n"
        "            try: s.setsockopt(1, 26, program)\n"
        "            except OSError: pass\n"
        "            kept.append(s)\n"
        "        time.sleep(9)\n"
        "time.sleep(9)\n",
    ),
    "open files": (
        6,
        PRELUDE + "for _ in range(500):\n"
        "    try:\n"
        "        if os.fork() == 0: kept = until_refused(lambda: os.eventfd(0), 1024); time.sleep(9)\n"
        "    except OSError: break\n"
        "time.sleep(9)\n",
    ),
    "memberships": (
        4,
        PRELUDE + "four = socket.inet_aton('224.1.2.3') + socket.inet_aton('127.0.0.1')\n"
        "def join():\n"
        "    s = socket.socket(2, 2)\n"
        "    while True:\n"
        "        for option in (35, 36):\n"
        "            try: s.setsockopt(0, option, four)\n"
        "            except OSError: pass\n"
        "for _ in range(30): threading.Thread(target=join, daemon=True).start()\n"
        "time.sleep(9)\n",
    ),
    "questions to all interfaces": (
        4,
        PRELUDE + "for _ in range(30):\n"
        "    if os.fork() == 0:\n"
        "        s = socket.socket(2, 2); name = struct.pack('16s240x', b'lo')\n"
        "        while True:\n"
        "            try: fcntl.ioctl(s, 0x8915, name)\n"
        "            except OSError: pass\n"
        "time.sleep(9)\n",
    ),
    "file locks": (
        2,
        PRELUDE + ONE_BYTE_LOCKS + "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        for _ in range(900): lock(os.memfd_create('x'), 0, 600)\n"
        "        time.sleep(9)\n"
        "time.sleep(9)\n",
    ),
    "disk reads": (
        2,
        PRELUDE + "import glob\n"
        # Of the largest, and found at once: to look through the image takes as long as an attack lasts.
        "paths = glob.glob('/usr/local/lib/python3*/dist-packages/*/*.so*')\n"
        "for part in range(8):\n"
        "    if os.fork() == 0:\n"
        "        while True:\n"
        "            for path in paths[part::8]:\n"
        "                try:\n"
        "                    fd = os.open(path, os.O_RDONLY)\n"
        "                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)\n"
        "                    while os.read(fd, 1 << 20): pass\n"
        "                    os.close(fd)\n"
        "                except OSError: pass\n"
        "time.sleep(9)\n",
    ),
    "buffers of UDP": (
        2,
        PRELUDE + "kept = []\n"
        "for s in until_refused(lambda: socket.socket(2, 2), 900):\n"
        "    s.bind(('127.0.0.1', 0)); s.setsockopt(1, 8, 1 << 22); s.setblocking(False); kept.append(s)\n"
        "    try:\n        for _ in range(100): s.sendto(bytes(60000), s.getsockname())\n    except OSError: pass\n"
        "time.sleep(9)\n",
    ),
}  # fmt: skip
SECONDS = 2
LIMITS = {"timeout_ms": SECONDS * 1000, "memory_mb": 256, "pids": 512}
