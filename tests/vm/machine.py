"""A virtual machine under QEMU: boots a disk, runs commands in it over ssh, ends with the process that made it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.vm.disk import Disk

#: `tcg` emulates and works everywhere; `kvm` where the host allows it.
DEFAULT_ACCEL = "tcg"
CPUS, MEMORY_MB = 2, 8192
#: An emulated boot takes 30 s on two cores; a machine that is busy with something else takes several times that.
BOOT_TIMEOUT_S = 600.0
POWEROFF_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 10
POLL_S = 1.0


class MachineError(Exception):
    """The machine does not boot, or does not answer; the message says where its console's log is."""


class Machine:
    """One virtual machine, on an overlay of a disk or on a disk of its own."""

    def __init__(self, disk: Disk, image: Path, folder: Path, accel: str = DEFAULT_ACCEL) -> None:
        """`image` is what is written to; `folder` takes the console's log."""
        self._disk, self._image, self._accel = disk, image, accel
        self.console = folder / "console.log"
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Boot, and wait until a command runs. Raises MachineError."""
        file_format = "qcow2" if self._image.suffix == ".qcow2" else "raw"
        argv = ["qemu-system-x86_64", "-accel", self._accel, "-cpu", "max"]
        argv += ["-smp", str(CPUS), "-m", str(MEMORY_MB), "-nographic", "-monitor", "none", "-no-reboot"]
        argv += ["-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd)]
        argv += ["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"]
        argv += ["-drive", f"file={self._image},if=virtio,format={file_format},cache=unsafe"]
        argv += ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self._port}-:22"]
        argv += ["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while self.run("true", timeout_s=CONNECT_TIMEOUT_S * 3).returncode != 0:
            if self._process.poll() is not None:
                raise MachineError(f"the machine ended with {self._process.returncode}: see {self.console}")
            if time.monotonic() > deadline:
                raise MachineError(f"no ssh within {BOOT_TIMEOUT_S:.0f} s: see {self.console}")
            time.sleep(POLL_S)

    def run(
        self, command: str, *, timeout_s: float, out: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell as root. Its output goes to `out`, or is returned; 124 where the time is over."""
        argv = [*self._ssh("ssh", "-p"), "root@127.0.0.1", command]
        target = subprocess.PIPE if out is None else out
        try:
            return subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            return subprocess.CompletedProcess(argv, 124, e.stdout or b"")

    def copy_in(self, sources: Sequence[Path], target: str) -> None:
        """Copy files into the machine. Raises CalledProcessError."""
        argv = [*self._ssh("scp", "-P"), *map(str, sources), f"root@127.0.0.1:{target}"]
        subprocess.run(argv, check=True, capture_output=True)

    def reboot(self) -> None:
        """Restart as an owner would, and wait until a command runs again. Raises MachineError."""
        self._end("systemctl reboot")  # by -no-reboot the emulator ends where the machine would start again
        self.start()

    def poweroff(self) -> None:
        """Shut down as an owner would, so that the disk is consistent. Raises MachineError."""
        self._end("systemctl poweroff")

    def _end(self, command: str) -> None:
        assert self._process is not None
        self.run(command, timeout_s=CONNECT_TIMEOUT_S)
        try:
            self._process.wait(POWEROFF_TIMEOUT_S)
        except subprocess.TimeoutExpired as e:
            self.kill()
            raise MachineError(f"the machine did not end within {POWEROFF_TIMEOUT_S:.0f} s") from e

    def kill(self) -> None:
        """End the machine as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def command_line(self) -> str:
        """Return the ssh command that a person would type."""
        return shlex.join([*self._ssh("ssh", "-p"), "root@127.0.0.1"])

    def _ssh(self, program: str, port_flag: str) -> list[str]:
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "ServerAliveInterval": "30",
            "ServerAliveCountMax": "20",
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return [program, port_flag, str(self._port), "-i", str(self._disk.ssh_key), *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
