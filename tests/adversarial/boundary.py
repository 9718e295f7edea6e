"""Programs that try to get out, to be heard outside, or to be more than nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tests.adversarial.rows import Case, on_gvisor

#: `attempt(call, *arguments)` prints "refused", or what was done.
PYTHON = """
import ctypes, errno, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(call, *arguments):
    try:
        print("DONE", getattr(call, "__name__", call), arguments, call(*arguments))
    except (OSError, ValueError) as e:
        print("refused")

def c(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        print("refused")
    else:
        print("DONE", name, arguments)

def write(path, data=b"1"):
    with open(path, "wb", buffering=0) as file:
        file.write(data)

def read(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(64)
"""
REFUSED = frozenset({"refused"})
#: Tokens of the service, and what names its machine's kernel.
OF_THE_HOST = ("dev_123", "API_KEYS", os.uname().release)


def answered(*also: str) -> dict[str, Mapping[str, Any] | str]:
    """For `on`: gVisor's own kernel refuses too, or answers in ways that begin like `also` and lead nowhere."""
    return on_gvisor({"lines": None, "begins": ("refused", *also), "lacks": OF_THE_HOST})


def python(code: str, **more) -> Case:
    return Case("python", PYTHON + code, **({"lines": REFUSED} | more))


def bash(code: str, **more) -> Case:
    return Case("bash", code, **({"stdout": "end\n"} | more))


CASES: dict[str, Case] = {
    # -- the network -------------------------------------------------------------------------------
    "egress by TCP": python(
        "for host in ('192.0.2.1', '169.254.169.254', '172.17.0.1', '10.0.0.1', '127.0.0.1', '0.0.0.0'):\n"
        "    for port in (22, 53, 80, 443, {port}):\n"
        "        attempt(socket.create_connection, (host, port), 2)\n"
    ),
    "egress by TCP over IPv6": python(
        "for host in ('2001:db8::1', 'fe80::1', '::1', '::ffff:169.254.169.254'):\n"
        "    attempt(socket.create_connection, (host, {port}), 2)\n"
    ),
    "egress by UDP": python(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for host in ('192.0.2.1', '8.8.8.8', '169.254.169.254', '172.17.0.1', '255.255.255.255', '224.0.0.1'):\n"
        "    attempt(s.sendto, b'x', (host, 53))\n"
    ),
    "names": python(
        "for name in ('example.com', 'metadata.google.internal', 'host.docker.internal', 'gateway.docker.internal'):\n"
        "    attempt(socket.getaddrinfo, name, 80)\n"
    ),
    "names in Node": Case(
        "node",
        "const dns = require('dns'), net = require('net');\n"
        "dns.lookup('example.com', e => console.log(e ? 'refused' : 'DONE'));\n"
        "net.connect({port}, '127.0.0.1').on('error', () => console.log('refused')).on('connect', () => console.log('DONE'));\n",
        stdout="refused\nrefused\n",
    ),
    "sockets of other families": python(
        "for family in (3, 4, 5, 9, 15, 16, 17, 21, 31, 36, 38, 40, 44):\n"
        "    for kind in (1, 2, 3): c('syscall', 41, ctypes.c_long(family), ctypes.c_long(kind), ctypes.c_long(0))\n"
        "for family in (16, 17, 38, 40):\n"
        "    c('syscall', 41, ctypes.c_long(1 << 32 | family), ctypes.c_long(2), ctypes.c_long(0))\n",
        # Netlink, which knows of this sandbox alone.
        on=answered("DONE syscall (41, c_long(16),", "DONE syscall (41, c_long(4294967312),"),
    ),
    "raw sockets": python(
        "for family in (socket.AF_INET, socket.AF_INET6):\n"
        "    for protocol in (1, 17, 255): attempt(socket.socket, family, socket.SOCK_RAW, protocol)\n"
    ),
    "abstract sockets of others": python(
        # Those without a name are of its own programs: the loop of a session's kernel has a pair of them.
        "named = [line for line in open('/proc/net/unix').readlines()[1:] if len(line.split()) > 7]\n"
        "print(named or 'refused')\n"
    ),
    "interfaces and routes": bash(
        "grep -c : /proc/net/dev; tail -n +2 /proc/net/route | wc -l; tail -n +2 /proc/net/arp | wc -l; echo end",
        stdout="1\n0\n0\nend\n",
        # Its /proc/net lists otherwise, but no more than the loopback interface and its own routes.
        on=on_gvisor({"stdout": None, "lines": frozenset({"0", "1", "2", "end"})}),
    ),
    # -- the file system ---------------------------------------------------------------------------
    "sockets of the host in the file system": bash("find / -xdev -type s 2>/dev/null; echo end"),
    "files with a bit for another's rights": bash("find / -xdev -perm /6000 -type f 2>/dev/null; echo end"),
    "a setuid file of one's own": bash(
        'cp /usr/bin/id .; chmod 6755 id; [ "$(./id -u)" = "$(id -u)" ] && [ "$(id -u)" != 0 ] && echo end'
    ),
    "writes elsewhere": bash(
        "for d in / /etc /usr /usr/bin /proc/sys/kernel /sys /opt /opt/runyard /opt/runyard/agent /var /var/tmp /var/lib "
        "/root /home /srv /run /run/lock /boot /media /mnt /dev /lib; do\n"
        '  { echo x > $d/x; } 2>/dev/null && echo "wrote $d"\n'
        '  mkdir $d/y 2>/dev/null && echo "made in $d"\n'
        "done; { echo x >> /etc/passwd; } 2>/dev/null && echo wrote; echo end"
    ),
    "files of the host": bash(
        "for f in {state} {state}/log/service.log {state}/db {state}/run/worker.sock /var/run/docker.sock "
        "/run/containerd/containerd.sock /etc/shadow /.dockerenv /root/.bash_history /proc/1/root/etc/shadow; do\n"
        '  cat "$f" 2>/dev/null && echo "read $f"\n'
        "done; echo end",
        # An empty file that Docker makes in each container, and that nothing but Landlock keeps from being read.
        on={"docker/runsc": {"stdout": "read /.dockerenv\nend\n"}},
    ),
    "climbing out": bash("cd /work; cat ../../../../../../{state}/log/service.log 2>/dev/null; cd /..; [ $PWD = / ] && echo end"),
    "other names for the root": python(
        "for pid in ('1', 'self', str(os.getppid())):\n"
        "    for name in ('root', 'cwd'):\n"
        "        path = f'/proc/{pid}/{name}/../../{state}/log/service.log'\n"
        "        attempt(read, path)\n"
    ),
    "device nodes": python(
        "for kind in (0o020000, 0o060000):\n"
        "    for major, minor in ((1, 1), (1, 11), (8, 0), (10, 200), (10, 232)):\n"
        "        attempt(os.mknod, f'n{kind}{major}{minor}', kind | 0o666, os.makedev(major, minor))\n"
        "        attempt(read, f'n{kind}{major}{minor}')\n"
        "for name in 'mem kmem port kmsg sda vda nvme0n1 kvm fuse net/tun vsock vhost-net loop-control mapper/control'.split():\n"
        "    attempt(os.open, '/dev/' + name, os.O_RDWR)\n",
        # It makes nodes, of devices that it does not have: none is read. Those it opens are its own.
        on=answered("DONE mknod", "DONE open ('/dev/fuse'", "DONE open ('/dev/net/tun'"),
    ),
    "file handles": python(
        "c('syscall', 303, -100, b'/', (8).to_bytes(4, 'little') + bytes(260), ctypes.byref(ctypes.c_int()), 0)\n"
        "c('syscall', 304, os.open('/', os.O_RDONLY), (8).to_bytes(4, 'little') + bytes(12), 0)\n"
    ),
    "the runtime's binary": python(
        "for path in ('/proc/1/exe', '/proc/self/exe', '/usr/bin/python3', '/opt/runyard/agent/pid1.py'):\n"
        "    attempt(os.open, path, os.O_WRONLY)\n"
        "    attempt(os.chmod, path, 0o777)\n"
    ),
    "where the host keeps the service": bash(
        "grep -h '{state}' /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats /proc/self/maps /proc/self/environ "
        "/proc/1/environ /proc/1/cmdline /proc/*/maps /proc/self/cgroup 2>/dev/null | cut -c-300; echo end",
        on={"docker/runc": "its daemon names its own layers by where they are"},
    ),
    # -- namespaces, mounts, roots -----------------------------------------------------------------
    "mounts": python(
        "os.makedirs('m', exist_ok=True)\n"
        "for source, kind, flags in ((b'x', b'tmpfs', 0), (b'proc', b'proc', 0), (b'/', None, 4096), (b'x', b'cgroup', 0), "
        "(b'x', b'overlay', 0), (b'none', None, 32 | 1)):\n"
        "    c('mount', source, b'/work/m', kind, flags, None)\n"
        "c('umount2', b'/proc', 0); c('umount2', b'/work', 2); c('umount2', b'/proc/kcore', 2)\n"
        "c('syscall', 430, b'tmpfs', 0); c('syscall', 428, -100, b'/', 1); c('syscall', 442, -100, b'/', 0, None, 0)\n"
    ),
    "another root": python("c('chroot', b'/work'); c('syscall', 155, b'/work', b'/work')\n"),
    "new namespaces": python(
        "for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x10020000):\n"
        "    c('unshare', flag)\n"
        "    c('syscall', 56, ctypes.c_ulong(flag | 17), 0, 0, 0, 0) or 0\n",
        # Namespaces of its own kernel.
        on=answered("DONE unshare", "DONE syscall (56,"),
    ),
    "others' namespaces": python(
        "for pid in ('1', 'self'):\n"
        "    for name in ('user', 'net', 'mnt', 'pid', 'ipc', 'uts', 'cgroup'):\n"
        "        try: fd = os.open(f'/proc/{pid}/ns/{name}', os.O_RDONLY)\n"
        "        except OSError: print('refused'); continue\n"
        "        c('setns', fd, 0)\n",
    ),
    "by the tools": bash(
        "for try in 'unshare -r true' 'unshare -n true' 'nsenter -t 1 -a true' 'mount -t tmpfs x /work/m' 'chroot / true' "
        "'su -c true' 'sudo -n true' 'newuidmap 1 0 0 1' 'pkexec true' 'setpriv --reuid 0 true'; do\n"
        '  $try >/dev/null 2>&1 && echo "did $try"\n'
        "done; echo end",
        on=on_gvisor({"stdout": None, "lines": frozenset({"did unshare -r true", "end"})}),
    ),
    # -- other processes ---------------------------------------------------------------------------
    "PID 1's memory and descriptors": python(
        "for name in 'mem environ maps smaps auxv stack syscall io fd fdinfo map_files root cwd exe'.split():\n"
        "    path = f'/proc/1/{name}'\n"
        "    attempt(os.readlink if name in ('root', 'cwd', 'exe') else os.listdir if name in ('fd', 'fdinfo', 'map_files') else read, path)\n",
        # It heeds no dumpable flag; PID 1 has nothing that its program may not know.
        on=answered("DONE read ('/proc/1/", "DONE listdir ('/proc/1/", "DONE readlink ('/proc/1/"),
    ),
    "tracing PID 1": python(
        "for request in (16, 0x4206, 17): c('ptrace', request, 1, 0, 0)\n"
        "buffer = ctypes.create_string_buffer(8)\n"
        "c('syscall', 310, 1, buffer, 1, buffer, 1, 0); c('syscall', 311, 1, buffer, 1, buffer, 1, 0)\n"
        "c('syscall', 312, 1, os.getpid(), 0, 0, 0); c('syscall', 440, 1, 0, 0, 0, 0)\n"
        "fd = libc.syscall(434, 1, 0)\n"
        "c('syscall', 438, fd, 0, 0)\n",
        # Equals may trace each other there, which stops the agent: the program's own run.
        on=on_gvisor(
            {
                "status": ("succeeded", "timeout", "failed", "killed"),
                "lines": None,
                "begins": ("refused", "DONE ptrace", "DONE syscall (31", "DONE syscall (438"),
            }
        ),
    ),
    "killing all there is": bash("kill -9 -1; kill -9 1; kill -TERM 1; kill -STOP 1; kill -INT 1; sleep 0.1; echo end", on=on_gvisor({"status": ("killed", "succeeded"), "stdout": None})),
    "other processes": bash(
        "n=$(ls -d /proc/[0-9]* | wc -l); [ $n -le 5 ] || echo \"$n processes\"; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' "
        "| grep -ao -e '[c]run' -e '[d]ockerd' -e '[g]unicorn' -e '[s]ystemd'; echo end"
    ),
    # -- the kernel --------------------------------------------------------------------------------
    "keyrings": python(
        "c('syscall', 250, 0, -3, 0); c('syscall', 248, b'user', b'x', b'y', 1, -2); c('syscall', 249, b'user', b'x', None, -2)\n"
        "attempt(lambda: read('/proc/keys') or 1 / 0) if os.path.exists('/proc/keys') and read('/proc/keys') else print('refused')\n",
        # A current one has session keyrings, its own and empty: the number of one is all that is told.
        on=on_gvisor({"lines": REFUSED | {"DONE syscall (250, 0, -3, 0)"}}),
    ),
    "bpf, perf, userfaultfd, kcmp, io_uring": python(
        "c('syscall', 321, 0, bytes(120), 120); c('syscall', 298, bytes(128), 0, -1, -1, 0); c('syscall', 323, 1)\n"
        "c('syscall', 312, os.getpid(), os.getppid(), 0, 0, 0); c('syscall', 425, 1, bytes(120))\n",
        # It has an io_uring of its own.
        on=answered("DONE syscall (425,"),
    ),
    "modules, kexec, reboot, swap": python(
        "c('syscall', 175, b'', 0, b''); c('syscall', 313, 0, b'', 0); c('syscall', 246, 0, 0, None, 0)\n"
        "c('syscall', 169, 0xfee1dead, 672274793, 0x4321FEDC, None); c('syscall', 167, b'/work/s', 0)\n"
        "c('syscall', 163, b'/work/a'); c('syscall', 103, 2, None, 0); c('syscall', 172, 3)\n",
        # Of its own kernel's messages.
        on=answered("DONE syscall (103,"),
    ),
    "the kernel's settings": python(
        "for path in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', "
        "'/proc/sys/vm/drop_caches', '/proc/sys/kernel/hostname', '/proc/sys/net/ipv4/ip_forward', '/proc/self/attr/current', "
        "'/sys/kernel/uevent_helper', '/sys/power/state', '/proc/irq/0/smp_affinity', '/proc/mtrr'):\n"
        "    attempt(write, path)\n"
        "for name in ('uid_map', 'gid_map', 'setgroups', 'oom_score_adj', 'timerslack_ns', 'loginuid', 'coredump_filter'):\n"
        "    attempt(write, f'/proc/{os.getpid()}/{name}', b'-1')\n",
        # Settings of its own kernel.
        on=answered("DONE write ('/proc/"),
    ),
    "control groups": bash(
        "find / -name cgroup.procs 2>/dev/null | head -3; find / -name release_agent 2>/dev/null | head -3; "
        "for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do "
        "{ echo 0 > $f; } 2>/dev/null && echo wrote $f; done; echo end",
        # Groups of its own making.
        on=on_gvisor({"stdout": None, "begins": ("end", "/sys/fs/cgroup/", "/proc/", "wrote /sys/fs/cgroup/")}),
    ),
    "what tells of the host": bash(
        "for f in kcore kallsyms keys timer_list interrupts cmdline modules iomem ioports slabinfo diskstats "
        "partitions swaps locks config.gz; do head -c 100 /proc/$f 2>/dev/null | head -1; done; ls /sys; echo end",
        # It has some of these, of its own kernel.
        on=on_gvisor({"stdout": None, "contains": ("end",), "lacks": OF_THE_HOST}),
    ),
    "more rights": python(
        "for uid in (0, 1, 65534):\n"
        "    attempt(os.setuid, uid); attempt(os.setgid, uid); attempt(os.setresuid, uid, uid, uid); attempt(os.setgroups, [uid])\n"
        "c('prctl', 38, 0, 0, 0, 0)\n"  # no_new_privs cannot be taken back
        "c('prctl', 47, 2, 21, 0, 0)\n"  # CAP_SYS_ADMIN into the ambient set
        "c('prctl', 8, 1, 0, 0, 0) if False else print('refused')\n"
        "c('syscall', 126, (0x20080522).to_bytes(4, 'little') + bytes(4), b'\\xff' * 24)\n"
    ),
    "resource limits": python(
        "import resource\n"
        "for name in ('NOFILE', 'CORE', 'FSIZE', 'MSGQUEUE', 'MEMLOCK', 'SIGPENDING'):\n"
        "    number = getattr(resource, 'RLIMIT_' + name, 12 if name == 'MSGQUEUE' else 11)\n"
        "    attempt(resource.setrlimit, number, (resource.RLIM_INFINITY,) * 2)\n"
        "attempt(os.setpriority, os.PRIO_PROCESS, 0, -5)\n"
        "attempt(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))\n"
        "for what in (2, 3):\n"
        "    c('syscall', 251, 1, 0, 1 << 13 | 4)\n",
        # Its own scheduler takes any priority.
        on=answered("DONE setpriority", "DONE sched_setscheduler", "DONE syscall (251,"),
    ),
    "the clock and the name": python(
        "import time\n"
        "attempt(time.clock_settime, time.CLOCK_REALTIME, 0); attempt(socket.sethostname, 'x'); c('setdomainname', b'x', 1)\n"
        "c('syscall', 159, bytes(208)); c('syscall', 164, bytes(16), None); c('vhangup')\n",
        on=answered("DONE syscall (159,"),
    ),
    "the terminal": python(
        "import fcntl, termios\n"
        "attempt(os.open, '/dev/tty', os.O_RDWR); attempt(os.open, '/dev/console', os.O_RDWR)\n"
        "for fd in (0, 1, 2):\n"
        "    attempt(fcntl.ioctl, fd, termios.TIOCSTI, b'x'); attempt(fcntl.ioctl, fd, 0x541c, b'\\x02'); attempt(fcntl.ioctl, fd, termios.TIOCSCTTY, 1)\n"
    ),
    "another personality": python(
        "for bits in (8, 0x40000, 0x0040000 | 1, 0x0100000, 0x0400000, 0x8000000):\n"
        "    if bits != 0x40000: c('personality', ctypes.c_ulong(bits))\n",
        on=answered("DONE personality"),
    ),
    "a filter of one's own": python("c('syscall', 317, 1, 0, None); c('syscall', 317, 0, 0, None)\n", on=answered("DONE syscall (317,")),
    # -- while compiling ---------------------------------------------------------------------------
    "Rust includes a file of the host": Case(
        "rust",
        'fn main() { println!("{}", include_str!("{state}/log/service.log")); }',
        status=("failed",),
        contains=("couldn't read",),
        lacks=('"level"',),
    ),
    "Rust includes what is masked": Case(
        "rust",
        'fn main() { println!("{}", include_str!("/proc/1/environ")); }',
        status=("failed",),
        contains=("couldn't read",),
        lacks=("PATH=",),
        # It heeds no dumpable flag; the environment that is read is the agent's own.
        on=on_gvisor({"status": ("failed", "succeeded"), "contains": (), "lacks": OF_THE_HOST}),
    ),
    "Go embeds a file of the host": Case(
        "go",
        'package main\nimport (_ "embed"; "fmt")\n//go:embed {state}/log/service.log\nvar log string\nfunc main() { fmt.Println(log) }',
        status=("failed",),
        lacks=('"level"',),
    ),
    "Go embeds by a link": Case(
        "go",
        'package main\nimport (_ "embed"; "fmt")\n//go:embed x/../../../etc/shadow\nvar s string\nfunc main() { fmt.Println(s) }',
        status=("failed",),
        lacks=("root:",),
    ),
    "PHP includes a file of the host": Case(
        "php", '<?php @include "{state}/log/service.log"; echo "end\\n";', stdout="end\n"
    ),
    "Ruby loads a file of the host": Case(
        "ruby", 'begin; load "{state}/log/service.log"; rescue LoadError; puts "end"; end', stdout="end\n"
    ),
    "Node requires a file of the host": Case(
        "node", 'try { require("{state}/log/service.log") } catch (e) { console.log("end") }', stdout="end\n"
    ),
    "Deno is given every permission": Case(
        "deno",
        'try { Deno.readTextFileSync("{state}/log/service.log"); } catch { console.log("refused"); }\n'
        'try { await Deno.connect({ hostname: "127.0.0.1", port: {port} }); } catch { console.log("refused"); }\n'
        'try { Deno.writeTextFileSync("/etc/x", ""); } catch { console.log("refused"); }\n',
        stdout="refused\nrefused\nrefused\n",
    ),
    "Bun likewise": Case(
        "bun",
        'try { require("fs").readFileSync("{state}/log/service.log"); } catch { console.log("refused"); }\n'
        'try { await fetch("http://127.0.0.1:{port}/healthz"); } catch { console.log("refused"); }\n'
        'try { require("fs").writeFileSync("/etc/x", ""); } catch { console.log("refused"); }\n',
        stdout="refused\nrefused\nrefused\n",
    ),
    "TypeScript likewise": Case(
        "typescript",
        'import fs from "node:fs";\n'
        'for (const path of ["{state}/log/service.log", "/etc/shadow"]) { try { fs.readFileSync(path); console.log("DONE"); }\n'
        '  catch (e: unknown) { console.log("refused"); } }\n',
        stdout="refused\nrefused\n",
    ),
    # -- the environment ---------------------------------------------------------------------------
    "an environment that loads code": bash(
        "echo end",
        job={
            "env": {
                "LD_PRELOAD": "/work/x.so", "BASH_ENV": "/work/env.sh", "PYTHONSTARTUP": "/work/x", "NODE_OPTIONS": "-r /x",
                "GIT_DIR": "/work", "PERL5OPT": "-d", "LD_LIBRARY_PATH": "/work", "GCONV_PATH": "/work",
            }
        },
    ),
    "an environment that loads code into what waits": Case(
        "python",
        "import os; print(os.getuid() != 0, open('/proc/1/comm').read() != 'x')",
        stdout="True True\n",
        job={"env": {"PYTHONPATH": "/work", "PYTHONINSPECT": "1", "PYTHONHASHSEED": "0"}},
    ),
}  # fmt: skip
