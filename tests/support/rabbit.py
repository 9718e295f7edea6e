"""A RabbitMQ of the tests' own: one node on ports of loopback, everything in a scratch directory, no plug-ins."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from ops.install import install_packages
from tests.support.slow_machine import TIME_FACTOR

PACKAGE = "rabbitmq-server"
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
POLICY = Path("/usr/sbin/policy-rc.d")
ACCOUNT = "rabbitmq"
USER, PASSWORD = "tests", "of-the-tests"
STARTED_S = 60


class RabbitMQ:
    """One server; it keeps its ports and its durable queues when it is started again."""

    def __init__(self, *, tls: bool = False) -> None:
        """With `tls` it listens at `tls_url` too, to clients with a certificate of `ca`; its own will do."""
        _install()
        self._folder = Path(tempfile.mkdtemp(prefix="rabbit-", dir="/tmp"))
        self.port, self.tls_port, distribution, self._epmd = _free_ports(4)
        self.url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/%2F"
        self.tls_url = f"amqps://{USER}:{PASSWORD}@127.0.0.1:{self.tls_port}/%2F"
        self.ca = self._folder / "ca.pem"
        self.certificate, self.key = self._folder / "tls.pem", self._folder / "tls.key"
        config = self._folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            f"default_user = {USER}\ndefault_pass = {PASSWORD}\nloopback_users = none\n"
            "disk_free_limit.absolute = 1MB\nlog.console = false\n"
        )
        if tls:
            self._write_certificate()
            with config.open("a") as more:
                more.write(
                    f"listeners.ssl.local = 127.0.0.1:{self.tls_port}\n"
                    f"ssl_options.cacertfile = {self.ca}\nssl_options.certfile = {self.certificate}\n"
                    f"ssl_options.keyfile = {self.key}\n"
                    "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
                )
        (self._folder / "plugins").write_text("[].\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            # One scheduler is enough, and it sleeps when it has nothing to do.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        if os.geteuid() == 0:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, ACCOUNT, ACCOUNT)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = [str(PROGRAM)]
        if os.geteuid() == 0:
            argv = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", *argv]
        with (self._folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                argv, cwd="/", env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + STARTED_S * TIME_FACTOR
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "out").read_text()[-3000:]
            assert time.monotonic() < deadline, "rabbitmq-server does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it as a crash does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def hang(self) -> None:
        """Connections stay, and nothing is answered."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def control(self, *arguments: str) -> str:
        """Have the server's own tool do something, and return what it says."""
        argv = ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments]
        if os.geteuid() == 0:
            argv = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", *argv]
        done = subprocess.run(argv, env=self._environment, cwd="/", capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()

    def remove(self) -> None:
        """Stop it and leave nothing."""
        self.go_on()
        self.kill()
        self._end_epmd()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_certificate(self) -> None:
        """Write an authority, and a certificate that it has signed for both sides, with its key."""
        authority, request = self._folder / "ca.key", self._folder / "request"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"]
        for arguments in (
            ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", "-keyout", authority, "-out", self.ca],
            ["req", "-new", *curve, *names, "-keyout", self.key, "-out", request],
            ["x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", authority, "-CAcreateserial", "-days", "2",
             "-copy_extensions", "copy", "-out", self.certificate],
        ):  # fmt: skip
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def _end_epmd(self) -> None:
        """End the node's name server, which refuses that until it has noticed that the node is gone."""
        argv = ["epmd", "-port", str(self._epmd), "-kill"]
        deadline = time.monotonic() + 10
        while b"Killed" not in subprocess.run(argv, env=self._environment, capture_output=True, check=False).stdout:
            if time.monotonic() > deadline:
                raise AssertionError("epmd does not end")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.settimeout(2)
                sock.sendall(b"AMQP\0\0\x09\x01")
                return len(sock.recv(16)) > 0
        except OSError:
            return False


def _install() -> None:
    """Install the server if it is not there. Never skipped: CI has to run this."""
    if PROGRAM.exists():
        return
    # The package would start a server of its own on the usual ports.
    had_policy = POLICY.exists()
    if not had_policy:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        install_packages([PACKAGE])
    finally:
        if not had_policy:
            POLICY.unlink()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
