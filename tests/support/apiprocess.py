"""Processes of api in front of no worker, as the supervisor starts them but for their account."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from storage.layout import make_areas
from tests.support.service import REPO, Service

UP_S = 60
ADMIN = "admin-token-of-the-tests"


class Api:
    """api under gunicorn, in a directory of its own."""

    def __init__(self, settings, app="api.app:create_app()"):
        self.app = app
        self.state = Path(tempfile.mkdtemp(prefix="runyard-limits-"))
        self.state.chmod(0o755)
        make_areas(self.state / "storage", os.getuid())
        (self.state / "db").mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "STATE_DIR": str(self.state),
            "PORT": str(port),
            "ADMIN_TOKEN": ADMIN,
            "RUNYARD_ENV": "development",
            "SIGNING_KEY": "k" * 48,
            "QUEUE_MAX": "4",
            "MAX_RUNS": "4",
            "EVENT_READERS": "4",
        }
        self.log = self.state / "log"
        self.service = Service("127.0.0.1", port, self.state)
        self.environment = environment | settings
        self.again()

    def again(self):
        """Start it, as it was started before; itself."""
        argv = [sys.executable, "-m", "gunicorn", "-c", "python:api.server.gunicorn_conf", self.app]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, cwd=REPO, env=self.environment, stdout=log, stderr=log)
        return self

    def wait(self):
        """Until it answers; itself."""
        deadline = time.monotonic() + UP_S
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                if self.service.get("/healthz", token=None).status == 200:
                    return self
            except OSError:
                time.sleep(0.05)

    def workers(self):
        """The processes that answer."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def kill(self):
        """End every process of it at once, as the kernel does when memory is short."""
        for pid in (self.process.pid, *self.workers()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(20)

    @property
    def instance_id(self):
        """The id that it holds its lease by."""
        return (self.state / "api/instance").read_text().strip()

    def said(self):
        return self.log.read_text()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
        shutil.rmtree(self.state)
