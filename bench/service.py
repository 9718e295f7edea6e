"""The service that is measured: brought up and taken down as a user would, with a state directory of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.clients import Client
from dispatch.unix import UnixDispatcher
from ops.state import StatePlace, cgroups, processes
from sandbox.engines.oci.templates.container import TEMPLATE_PREFIX
from sandbox.images import Image, ImageStore

REPO = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
TOKEN, OTHER_TOKEN = "bench_123", "bench_456"
READY_WITHIN_S = 900.0
FILLED_WITHIN_S = 120.0
POLL_S = 0.05


class Service:
    """One service of the bench's own. `up` again with other settings restarts it."""

    def __init__(self, state: Path, port: int) -> None:
        self.port = port
        self.state = state
        self.place = StatePlace(state.resolve())
        self._dispatcher = UnixDispatcher(self.place.run / "worker.sock")

    # -- starting and stopping ---------------------------------------------------------------------

    def up(self, **settings: str) -> None:
        """Start it, under the defaults but for `settings`, and wait for every language and a full pool."""
        self._make("up", settings)
        deadline = time.monotonic() + READY_WITHIN_S
        while waiting := [language["id"] for language in self._languages() if not language["ready"]]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"languages not ready after {READY_WITHIN_S:.0f} s: {', '.join(waiting)}")
            time.sleep(1)
        self.settle()

    def down(self) -> None:
        """Stop it; nothing of it is left."""
        self._dispatcher.close()
        self._make("down", {})

    def _make(self, target: str, settings: dict[str, str]) -> None:
        dropped = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "API_KEYS", "BIND")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment |= {"STATE_DIR": str(self.state), "PORT": str(self.port)}
        environment |= {"API_KEYS": f"{TOKEN}:bench:100000:100000,{OTHER_TOKEN}:other:100000:100000"} | settings
        done = subprocess.run(
            ["make", "--no-print-directory", target], cwd=REPO, env=environment, check=False, stdout=2
        )
        if done.returncode != 0:
            raise SystemExit(f"make bench: make {target} failed (see above)")

    # -- asking it ---------------------------------------------------------------------------------

    def client(self, token: str = TOKEN) -> Client:
        """A client with a connection of its own."""
        return Client(HOST, self.port, token)

    @property
    def dispatcher(self) -> UnixDispatcher:
        """The worker itself, as api reaches it."""
        return self._dispatcher

    @property
    def languages(self) -> list[dict[str, Any]]:
        """What `GET /v1/languages` lists of those that are ready."""
        return [language for language in self._languages() if language["ready"]]

    def image(self, language: str) -> Image | None:
        """A language's runner image."""
        return ImageStore(self.place.images).get(language)

    def settle(self) -> None:
        """Wait until nothing runs, nothing is taken apart and the pool is full: where a measurement starts."""
        deadline = time.monotonic() + FILLED_WITHIN_S
        while not self._at_rest():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service does not come to rest: {self._dispatcher.status()}")
            time.sleep(POLL_S)
        time.sleep(0.2)

    def _at_rest(self) -> bool:
        status = self._dispatcher.status()
        shelves = [*status["pool"].values(), *status["gvisor_pool"].values()]
        full = all(shelf["ready"] >= shelf["size"] for shelf in shelves)
        idle = not status["queue"]["running"] and not status["queue"]["waiting"]
        wanted = sum(shelf["size"] for shelf in shelves)
        return full and idle and len(self.sandbox_groups("memory")) <= wanted

    def _languages(self) -> list[dict[str, Any]]:
        client = self.client()
        try:
            found: list[dict[str, Any]] = client.get("/v1/languages")["data"]
            return found
        finally:
            client.close()

    # -- looking at it from outside ----------------------------------------------------------------

    def pids(self) -> dict[str, list[int]]:
        """The service's own processes by part: `api`, `worker`, `supervisor`."""
        inside = {pid for folder in cgroups(self.place) for pid in _pids(folder)}
        found: dict[str, list[int]] = {"api": [], "worker": [], "supervisor": []}
        for pid in set(processes(self.place)) - inside:
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                marks = {"api": b"gunicorn", "worker": b"worker", "supervisor": b"ops.supervisor"}
                for part in (part for part, mark in marks.items() if mark in argv):
                    found[part].append(pid)
        return found

    def group(self, controller: str) -> Path:
        """The control group that all of this service's sandboxes lie beneath."""
        name = self.place.instance
        for pattern in (f"{controller}/{name}", f"*{controller}*/{name}", name):
            for found in Path("/sys/fs/cgroup").glob(pattern):
                return found
        raise RuntimeError(f"the service has no {controller} group")

    def sandbox_groups(self, controller: str) -> list[Path]:
        """The control groups of its sandboxes."""
        return [group for group in self._groups(controller) if not group.name.startswith(TEMPLATE_PREFIX)]

    def template_groups(self, controller: str) -> list[Path]:
        """The control groups of what its sandboxes are forked from."""
        return [group for group in self._groups(controller) if group.name.startswith(TEMPLATE_PREFIX)]

    def _groups(self, controller: str) -> list[Path]:
        return [Path(entry.path) for entry in os.scandir(self.group(controller)) if entry.is_dir()]


def _pids(folder: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    return []
