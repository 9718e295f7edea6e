"""Clients that go on asking while the service is killed under them, and remember what they were answered."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.support.own_service import UNREACHABLE
from tests.support.service import Service

#: Makes the body of a request for a program that prints a name.
Body = Callable[[str, random.Random], dict[str, Any]]
PAUSE_S = 0.1


def plain(name: str, chance: random.Random) -> dict[str, Any]:
    """Return the body for a program that prints the name and then sleeps for a moment."""
    return {"language": "bash", "code": f"echo {name}; sleep 0.{chance.randrange(4)}"}


class SteadyClient:
    """Runs things in every way until told to stop.

    With an Idempotency-Key, which is the program's name, it asks again until it is answered. The share `keyless` of
    its requests has none, and is made once.
    """

    def __init__(
        self,
        service: Service,
        number: int,
        stop: threading.Event,
        *,
        body: Body = plain,
        keyless: float = 0.0,
        most: int = 10_000,
    ) -> None:
        """`most` is how many programs it asks for at most."""
        self._service, self._stop, self._body = service, stop, body
        self._keyless, self._most = keyless, most
        self._random = random.Random(number)
        #: The names of programs, and the id of the run that was named for each.
        self.accepted: dict[str, str] = {}
        #: Those of which was answered that they are not run.
        self.refused: set[str] = set()
        self.wrong: list[object] = []
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def end(self) -> None:
        """Wait for the last answer, after `stop`, and check that every answer was one that may come."""
        self.thread.join(90)
        assert not self.thread.is_alive()
        assert self.wrong == []

    def _work(self) -> None:
        for _ in range(self._most):
            if self._stop.is_set():
                return
            name = uuid.UUID(int=self._random.getrandbits(128)).hex
            body = self._body(name, self._random) | {"background": self._random.random() < 0.5}
            headers = {} if self._random.random() < self._keyless else {"Idempotency-Key": name}
            while not self._stop.is_set() and not self._ask(name, body, headers):
                time.sleep(PAUSE_S)

    def _ask(self, name: str, body: dict[str, Any], headers: dict[str, str]) -> bool:
        """Ask once; return whether there is nothing more to ask."""
        try:
            reply = self._service.post("/v1/runs", json=body, headers=headers, timeout=60)
        except UNREACHABLE:
            return not headers
        if reply.status in (200, 202):
            self.accepted[name] = reply.body["id"]
        elif reply.status == 409 or (reply.status == 500 and "run_id" in reply.body):
            self.accepted[name] = reply.body["run_id"]
        elif reply.status == 503:
            if headers:
                return False
            self.refused.add(name)
        else:
            self.wrong.append((reply.status, reply.body))
        return True


def accepted_by(clients: list[SteadyClient]) -> dict[str, str]:
    """Return the run that was named for each program of all clients."""
    return {name: run_id for client in clients for name, run_id in client.accepted.items()}


def every_run(service: Service) -> list[dict[str, Any]]:
    """Return all runs of the tests' key."""
    runs: list[dict[str, Any]] = []
    after = ""
    while True:
        page = service.get(f"/v1/runs?limit=100{after}").body
        runs += page["data"]
        if not page["has_more"]:
            return runs
        after = f"&after={page['last_id']}"
