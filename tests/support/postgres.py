"""A PostgreSQL of the tests' own: a cluster in a scratch directory, on a Unix socket, as an unprivileged user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ops.install import install_packages

PACKAGE = "postgresql"
BINARIES = "/usr/lib/postgresql/*/bin"
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/no-main-cluster.conf")
ACCOUNT = "nobody"
PORT = "5432"  # names the socket's file; nothing listens on TCP
TIMEOUT_S = 60


class Postgres:
    """One cluster. It writes nothing through to the disk: no test cuts the machine's power."""

    def __init__(self) -> None:
        self._bin = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, ACCOUNT)
        self._folder.chmod(0o711)  # the account of api, too, has to reach the socket
        self._data = self._folder / "data"
        self._databases = 0
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        self._run("initdb", f"--pgdata={self._data}", *options)
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c port={PORT} -c fsync=off"
        self._run("pg_ctl", "start", "-w", f"--pgdata={self._data}", "-l", f"{self._folder}/log", "-o", settings)

    def stop(self) -> None:
        """Stop it at once, as a crash does: clients are cut off."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", f"--pgdata={self._data}")

    def kill(self) -> None:
        """Kill every process of it. The kernel has what was written, so nothing that was committed is lost."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text()
        for pid in (postmaster, *map(int, children.split())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + TIMEOUT_S
        while Path(f"/proc/{postmaster}").exists():
            assert time.monotonic() < deadline, "postgres does not end"
            time.sleep(0.01)

    def remove(self) -> None:
        """Stop it and leave nothing."""
        try:
            if (self._data / "postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of a database that nobody has used."""
        self._databases += 1
        name = f"test{self._databases}"
        connect = (f"--host={self._folder}", f"--port={PORT}", "--username=postgres")
        self._run("createdb", *connect, name)
        return f"postgresql://postgres@/{name}?host={self._folder}&port={PORT}"

    def _run(self, program: str, *arguments: str) -> None:
        argv: Sequence[str] = (str(self._bin / program), *arguments)
        if os.geteuid() == 0:
            argv = ("setpriv", f"--reuid={ACCOUNT}", "--regid=nogroup", "--clear-groups", *argv)
        # The server inherits what it is started with: a pipe would be held open by it.
        with (self._folder / "out").open("ab") as out:
            done = subprocess.run(argv, stdout=out, stderr=out, cwd="/", timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, (program, (self._folder / "out").read_text()[-2000:])


def _binaries() -> Path:
    """Where the server's programs are; installed if they are not. Never skipped: CI has to run this."""
    found = sorted(Path("/").glob(BINARIES.lstrip("/")))
    if not any((folder / "initdb").exists() for folder in found):
        # The package would start a cluster of its own on the usual port.
        NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
        NO_CLUSTER.write_text("create_main_cluster = false\n")
        install_packages([PACKAGE])
        found = sorted(Path("/").glob(BINARIES.lstrip("/")))
    return next(folder for folder in reversed(found) if (folder / "initdb").exists())
