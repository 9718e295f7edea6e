"""The wall, seen from inside: what is always true of a sandbox, tried by programs that mean harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.security_modules import APPARMOR

CALLS = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    print(name, "done" if result >= 0 else errno.errorcode[ctypes.get_errno()])
"""


def test_the_run_is_nobody_in_particular(run, column):
    code = "id -u; id -g; id -G; hostname; pwd; cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2,4"
    lines = run("bash", code)["stdout"].split("\n")
    uid = lines[0]
    assert lines[:5] == [uid, uid, uid, "sandbox", "/work"]
    assert int(uid) == column.uid if column.uid else int(uid) > 100_000
    # The profile of AppArmor hides it.
    assert lines[5] == ("" if APPARMOR else "0 65536" if column.user_namespace else "0 4294967295")


def test_capabilities_privileges_and_filter(run, column):
    code = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/self/status"
    facts = dict(line.split(":\t", 1) for line in run("bash", code)["stdout"].splitlines())
    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    # Docker lists a user's own group among the further ones.
    own = {facts["Gid"].split()[0]} if column.engine == "docker" else set()
    assert set(facts["Groups"].split()) == own


def test_two_runs_have_different_namespaces(run):
    code = "for n in user pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done"
    # At the same time: the numbers of namespaces that are gone are given again.
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: run("bash", f"{code}; sleep 1"), range(2)))
    first, second = (made["stdout"].split("\n") for made in runs)
    assert len(first) == len(second) == 8
    # A user namespace belongs to its slot and may be met again; the rest are new every time.
    assert all(a != b for a, b in zip(first[1:7], second[1:7], strict=True))


def test_there_is_no_network(run):
    code = (
        "import socket\n"
        "print(open('/proc/net/dev').read().count(':'))\n"
        "for host in ('192.0.2.1', '169.254.169.254', '172.17.0.1'):\n"
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n"
        "        s = socket.socket(socket.AF_INET, kind)\n"
        "        try: s.connect((host, 53)); print('connected')\n"
        "        except OSError as e: print(e.errno)\n"
        "try: socket.getaddrinfo('example.com', 80); print('resolved')\n"
        "except OSError as e: print('no name')\n"
    )
    lines = run("python", code)["stdout"].split()
    assert lines[0] == "1"  # loopback alone
    assert set(lines[1:7]) <= {"101", "113"}  # no network, no route: which of them is the kernel's choice
    assert lines[7:] == ["no", "name"]


def test_sockets_of_other_families_are_refused(run):
    code = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
        "for family in (16, 17, 40, 38, 0x100000028):\n"
        "    print(libc.syscall(ctypes.c_long(41), ctypes.c_long(family), ctypes.c_long(2), ctypes.c_long(0)))\n"
    )
    assert run("python", code)["stdout"].split() == ["-1"] * 5


def test_the_root_is_read_only_and_three_places_are_not(run):
    code = (
        "for d in / /etc /usr /usr/local/bin /proc /proc/sys/kernel /dev /opt/runyard/agent /var/tmp /root /home; do\n"
        '  touch $d/x 2>/dev/null && echo "wrote $d"; done\n'
        'for d in /work /tmp /dev/shm; do touch $d/x && echo "$d"; done'
    )
    assert run("bash", code)["stdout"] == "/work\n/tmp\n/dev/shm\n"


def test_nothing_of_the_host_lies_in_its_file_system(run):
    code = (
        "cat /etc/resolv.conf /etc/hostname 2>/dev/null | grep -vc '^sandbox$'\n"
        "find / -xdev -type s 2>/dev/null | wc -l\n"
        "find / -xdev -perm /6000 -type f 2>/dev/null | wc -l\n"
        "ls /sys | wc -l; ls /run | grep -c docker; ls /dev | sort | tr '\\n' ' '"
    )
    lines = run("bash", code, limits={"timeout_ms": 30_000})["stdout"].split("\n")
    assert lines[:5] == ["0", "0", "0", "0", "0"]
    devices = [
        "console",
        "core",
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ]
    assert set(lines[5].split()) <= set(devices)


def test_calls_that_reach_beyond_are_refused(run):
    code = CALLS + (
        "attempt('unshare', 0x10000000)\n"
        "attempt('unshare', 0x00020000)\n"
        "attempt('setns', 0, 0)\n"
        "attempt('mount', b'x', b'/tmp', b'tmpfs', 0, None)\n"
        "attempt('umount2', b'/work', 0)\n"
        "attempt('chroot', b'/tmp')\n"
        "attempt('ptrace', 16, 1, 0, 0)\n"
        "attempt('syscall', 310, 1, 0, 0, 0, 0, 0)\n"  # process_vm_readv
        "attempt('syscall', 438, 0, 0, 0)\n"  # pidfd_getfd
        "attempt('syscall', 321, 0, 0, 0)\n"  # bpf
        "attempt('syscall', 298, 0, 0, 0, 0, 0)\n"  # perf_event_open
        "attempt('syscall', 323, 0)\n"  # userfaultfd
        "attempt('syscall', 425, 1, 0)\n"  # io_uring_setup
        "attempt('syscall', 304, 0, 0, 0)\n"  # open_by_handle_at
        "attempt('syscall', 250, 0, 0, 0)\n"  # keyctl
        "attempt('syscall', 312, 1, 1, 0, 0, 0)\n"  # kcmp
        "attempt('syscall', 155, 0, 0)\n"  # pivot_root
        "attempt('syscall', 175, 0, 0, 0)\n"  # init_module
        "attempt('sethostname', b'x', 1)\n"
        "attempt('setuid', 0)\n"
        "attempt('syscall', 135, 0x0400000)\n"  # personality(ADDR_COMPAT_LAYOUT)
    )
    result = run("python", code)
    answers = dict(line.rsplit(" ", 1) for line in result["stdout"].splitlines())
    assert result["stdout"].count("\n") == 21
    assert "done" not in result["stdout"], result["stdout"]
    assert answers["setuid"] in {"EPERM", "EINVAL"}


def test_the_agent_cannot_be_reached(run):
    code = (
        "import os, signal\n"
        "for name in ('mem', 'environ', 'fd', 'maps', 'root', 'cwd', 'stack', 'auxv'):\n"
        "    try: print(name, os.listdir('/proc/1/fd') if name == 'fd' else open(f'/proc/1/{name}', 'rb').read(1))\n"
        "    except OSError: pass\n"
        "for number in range(1, 65):\n"
        "    try: os.kill(1, number)\n"
        "    except OSError: pass\n"
        "print('alive')"
    )
    assert run("python", code)["stdout"] == "alive\n"


def test_what_the_kernel_tells_of_the_host_is_masked(run):
    names = "cmdline kallsyms modules interrupts kcore sysrq-trigger timer_list zoneinfo vmallocinfo diskstats partitions"
    code = f"for n in {names}; do [ -e /proc/$n ] && head -c1 /proc/$n 2>/dev/null | wc -c; done"
    counts = run("bash", code)["stdout"].split()
    assert len(counts) >= 5
    assert set(counts) == {"0"}
    for attempt in ("echo 1 > /proc/sys/kernel/core_pattern", "echo b > /proc/sysrq-trigger", "ls /proc/fs/*"):
        assert run("bash", attempt)["exit_code"] != 0


def test_a_run_finds_nothing_of_the_one_before(run):
    leave = (
        "echo secret > /work/s; echo secret > /tmp/s; echo secret > /dev/shm/s; "
        "python3 -c 'import os; print(os.getpid())'; ipcmk -M 64 2>/dev/null"
    )
    look = "cat /work/s /tmp/s /dev/shm/s 2>/dev/null; cat /proc/sysvipc/shm 2>/dev/null | wc -l; ps ax 2>/dev/null | grep -c sleep"
    for _ in range(5):
        run("bash", leave)
        assert "secret" not in run("bash", look)["stdout"]


def test_limits_of_a_process(run):
    code = "ulimit -c; ulimit -n; ulimit -Hn; ulimit -l; ulimit -q; ulimit -i"
    core, soft, hard, locked, queue, signals = run("bash", code)["stdout"].split()
    assert (core, soft, hard, locked, queue, signals) == ("0", "1024", "1024", "64", "0", "1024")


def test_tmp_and_shm_do_not_execute_and_work_does(run):
    code = (
        "for d in /work /tmp /dev/shm; do printf '#!/bin/sh\\necho ran' > $d/x; chmod +x $d/x; "
        "$d/x 2>/dev/null || echo refused; done"
    )
    assert run("bash", code)["stdout"] == "ran\nrefused\nrefused\n"


FORGERIES = {
    "the protocol on every descriptor": (
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'X' + bytes(6))\n    except OSError: pass\n"
    ),
    "a socket of the agent": (
        "import os, socket\nfor n in os.listdir('/proc/self/fd'):\n"
        "    try: socket.socket(fileno=int(n)).send(b'Z' + bytes(6))\n    except OSError: pass\n"
    ),
    "a held interpreter's pipe": "import os\ntry: os.write(3, b'x')\nexcept OSError: pass\n",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_frames_cannot_be_forged_from_a_program(run, name):
    result = run("python", FORGERIES[name] + "raise SystemExit(9)")
    assert (result["status"], result["exit_code"]) == ("failed", 9)


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PYTHONSTARTUP", "PYTHONPATH", "BASH_ENV", "GIT_SSH", "NODE_OPTIONS"]
)
def test_an_environment_that_loads_code_loads_it_inside_only(run, name):
    result = run("python", "print('in')", env={name: "/work/evil"}, files={"evil": "print('evil')"})
    assert "in\n" in result["stdout"]
    assert run("python", "print(1)")["stdout"] == "1\n"
