"""Programs that take all they can get, and programs that do not end."""

from __future__ import annotations

from tests.adversarial.rows import Case, on_gvisor

ENDED = ("succeeded", "failed", "timeout", "oom", "killed")
SOON = {"timeout_ms": 1500}
#: For programs that end by themselves: under gVisor on a busy machine that takes a while.
IN_TIME = {"timeout_ms": 8000}


def case(language: str, code: str, *status: str, limits=None, **more) -> Case:
    by_default = IN_TIME if status == ("succeeded",) else SOON
    return Case(language, code, status=status or ENDED, job={"limits": limits or by_default}, **more)


CASES: dict[str, Case] = {
    "fork bomb": case("bash", ":(){ :|:& };:; sleep 9"),
    "fork bomb in C's way": case("python", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "timeout", on=on_gvisor({"status": ("timeout", "killed", "oom")})),
    "fork bomb that flees its session": case(
        "python", "import os\nwhile True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass", "timeout", on=on_gvisor({"status": ("timeout", "killed", "oom")})),
    "thread bomb": case(
        "python",
        "import threading, time\nwhile True:\n    try: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
        "    except RuntimeError: time.sleep(0.01)",
        "timeout",
    ),
    "thread bomb in Go": case("go", 'package main\nimport "runtime"\nfunc main() { for { go func() { runtime.LockOSThread(); select {} }() } }'),
    "zombie bomb": case("python", "import os\nwhile True:\n    try:\n        if os.fork() == 0: os._exit(0)\n    except OSError: pass", "timeout"),
    "heap": case("python", "x = bytearray(10**12)", "failed", contains=("MemoryError",), on=on_gvisor({"status": ("failed", "oom", "timeout"), "contains": ()})),
    "heap that is touched": case("python", "x = []\nwhile True: x.append(b'x' * 10**6)", "oom", limits={"timeout_ms": 20_000}, facts={"oom_killed": True}),
    "heap in Node": case("node", "const x = []; for (;;) x.push(Buffer.alloc(1 << 20, 1));", "oom", "failed", limits={"timeout_ms": 30_000}),
    "heap of many": case(
        "python",
        "import os\nfor _ in range(20):\n    if os.fork() == 0:\n        x = b'x' * (60 << 20)\n        import time; time.sleep(9)\nos.wait()",
        limits=IN_TIME,
        facts={"oom_killed": True},
    ),
    "filling /work": case("bash", "head -c 9G /dev/zero > /work/x; stat -c %s x; df --output=pcent /work | tail -1", "succeeded", contains=("No space left",), limits={"timeout_ms": 20_000}),
    "filling /tmp": case("bash", "head -c 9G /dev/zero > /tmp/x; echo end", "succeeded", contains=("No space left", "end"), limits={"timeout_ms": 20_000}),
    "filling /dev/shm": case("bash", "head -c 9G /dev/zero > /dev/shm/x; echo end", "succeeded", contains=("No space left", "end"), limits={"timeout_ms": 20_000}),
    "filling all with names": case("bash", "for d in /work /tmp /dev/shm; do for n in {1..20000}; do : > $d/$n || break; done; done 2>&1 | head -c 200; echo end", contains=("No space left",), limits={"timeout_ms": 30_000}, on=on_gvisor({"contains": ("end",)})),
    "a file as large as there is a number": case("bash", "truncate -s 8E x; truncate -s 100G y; echo end", "succeeded", "killed", "failed"),
    "memory in files without names": case(
        "python",
        "import os\nfds = []\nwhile True:\n    fd = os.memfd_create('x'); fds.append(fd)\n    for _ in range(64): os.write(fd, bytes(1 << 20))",
        "oom",
        "failed",
        limits={"timeout_ms": 20_000},
    ),
    "memory in pipes": case(
        "python",
        "import os, fcntl\nkept = []\nwhile True:\n    try:\n        r, w = os.pipe(); kept.append((r, w)); os.set_blocking(w, False)\n        fcntl.fcntl(w, 1031, 1 << 20)\n"
        "    except OSError: pass\n    try:\n        while True: os.write(w, bytes(65536))\n    except OSError: pass\n    if len(kept) > 500: break\nprint('end')",
    ),
    "memory in sockets": case(
        "python",
        "import socket\nkept = []\nwhile len(kept) < 450:\n    try: a, b = socket.socketpair()\n    except OSError: break\n    kept.append((a, b)); a.setblocking(False)\n"
        "    a.setsockopt(1, 7, 1 << 30)\n    try:\n        while True: a.send(bytes(65536))\n    except OSError: pass\nprint('end')",
    ),
    "descriptors": case(
        "python",
        "import os\nn = 0\ntry:\n    while True: os.open('/dev/null', 0); n += 1\nexcept OSError as e: print(e.errno, 900 < n < 1024)",
        "succeeded",
        stdout="24 True\n",
    ),
    "inotify instances": case(
        "python",
        "import ctypes\nl = ctypes.CDLL(None)\nn = 0\nwhile l.inotify_init1(0) >= 0: n += 1\nprint('end', n > 0)",
        "succeeded",
        contains=("end",),
    ),
    "pending signals": case(
        "python",
        "import os, signal\nsignal.pthread_sigmask(0, {40})\nn = 0\nimport ctypes\nl = ctypes.CDLL(None)\n"
        "while n < 10**6 and l.sigqueue(os.getpid(), 40, 0) == 0: n += 1\nprint('end', n < 5000)",
        "succeeded",
        stdout="end True\n",
    ),
    "64 busy processes": case("bash", "for n in {1..60}; do while :; do :; done & done; wait", "timeout"),
    "signals ignored": case("bash", "trap '' TERM INT HUP QUIT ALRM USR1; while :; do sleep 9; done", "timeout", limits={"timeout_ms": 300}),
    "stopped by itself": case("bash", "kill -STOP $$; echo awake", "timeout", limits={"timeout_ms": 300}),
    "stopping everybody": case("bash", "(sleep 9 &); kill -STOP -1; kill -STOP $$", "timeout", limits={"timeout_ms": 300}),
    "sleep for ever": case("bash", "sleep infinity", "timeout", limits={"timeout_ms": 300}),
    "a child that outlives its parent": case("bash", "(setsid sleep 99 >/dev/null 2>&1 &) ; nohup sleep 99 & disown; echo end", "succeeded", stdout="end\n"),
    "a child that keeps the outputs open": case("bash", "sleep 99 & echo end", "succeeded", stdout="end\n"),
    "busy in the kernel": case("bash", "while :; do cat /proc/self/maps > /dev/null; done", "timeout"),
    "floods on both streams": case("bash", "yes out & yes err >&2", facts={"stdout_truncated": True, "stderr_truncated": True}, limits=SOON | {"max_output_bytes": 10_000}),
    "one endless line": case("python", "import sys\nwhile True: sys.stdout.write('x' * 65536)", "timeout", facts={"stdout_truncated": True}, limits=SOON | {"max_output_bytes": 65_536}),
    "control characters": case("bash", "printf '\\033]0;x\\007\\x00\\xff\\r\\b\\033[2J'; echo; echo '{\"seq\":1}'", "succeeded", contains=("\ufffd",)),
    "core dumps": case("python", "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\nos.abort()", "failed", stdout="(0, 0)\n", facts={"signal": "SIGABRT"}),
    "a stack without end": case("python", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "failed", "oom", limits={"timeout_ms": 20_000}),
    "a regular expression without end": case("python", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')", "timeout", limits={"timeout_ms": 300}),
    "compile bomb of macros": case(
        "rust",
        "macro_rules! b { ($($t:tt)*) => { b!($($t)* $($t)*); } }\nfn main() { b!(x x x x); }",
        "failed", "oom", "timeout",
    ),
    "compile bomb of constants": case("rust", 'const fn f(n: u64) -> u64 { let mut i = 0; while i < n { i += 1; } i }\nconst X: u64 = f(u64::MAX);\nfn main() { println!("{}", X); }', "failed", "oom", "timeout"),
    "compile bomb of data": case("go", "package main\nvar x = [1 << 33]byte{1 << 32: 1}\nfunc main() { println(len(x)) }", "failed", "oom", "timeout"),
    "compile bomb of types": case(
        "rust",
        "type A = ((u8, u8), (u8, u8));\nfn f<T: Clone>(t: T, n: u32) { if n > 0 { f((t.clone(), t), n - 1) } }\nfn main() { let a: A = ((0, 0), (0, 0)); f(a, 9); }",
        "failed", "oom", "timeout",
    ),
}  # fmt: skip
#: It ends by the compiler's own clock, of half a minute.
SLOW = frozenset({"compile bomb of types"})
