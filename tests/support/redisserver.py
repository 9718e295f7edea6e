"""A Redis of the tests' own: on a port of loopback, nothing on a disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from ops.install import install_packages

#: The package of the server proper would start one as a service; its program is in the tools, under another name.
PACKAGE = "redis-tools"
PROGRAM = Path("/usr/bin/redis-check-rdb")
STARTED_S = 30


class Redis:
    """One server; it keeps its port when it is started again."""

    def __init__(self) -> None:
        if not PROGRAM.exists():
            install_packages([PACKAGE])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            ["redis-server", *options],  # it is the server by this name
            executable=PROGRAM,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + STARTED_S
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it: clients are cut off."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(30)

    def hang(self) -> None:
        """Connections stay, and nothing is answered."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(16) == b"+PONG\r\n"
        except OSError:
            return False
