"""The containers that a service has left in a Docker daemon. Standard library only: `make down` needs no more.

Engine API, ContainerList and ContainerDelete. Without a daemon there are no containers.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from urllib.parse import quote

from ops.state import StatePlace

DEFAULT_HOST = "unix:///var/run/docker.sock"
#: As the engine labels them (sandbox/engines/docker/engine.py).
LABEL_INSTANCE = "dev.runyard.instance"
TIMEOUT_S = 20


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def version() -> str | None:
    """Return the version of the Docker daemon; None if no daemon answers."""
    found = _call("GET", "/version")
    if not found:
        return None
    said = json.loads(found)
    return f"Docker {said['Version']}, API {said['ApiVersion']}"


def containers(place: StatePlace) -> list[str]:
    """List the ids of this service's containers, running or exited."""
    filters = quote(json.dumps({"label": [f"{LABEL_INSTANCE}={place.instance}"]}))
    found = _call("GET", f"/containers/json?all=1&filters={filters}")
    return [entry["Id"] for entry in json.loads(found)] if found else []


def remove(container: str) -> None:
    """Kill and remove one."""
    _call("DELETE", f"/containers/{container}?force=1&v=1")


def _call(method: str, path: str) -> bytes:
    """Call the Docker API and return the body of a successful answer; empty on an error or without a daemon."""
    kind, _, socket_path = (os.environ.get("DOCKER_HOST") or DEFAULT_HOST).partition("://")
    if kind != "unix" or not os.path.exists(socket_path):
        return b""
    connection = _Connection(socket_path)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    except OSError:
        return b""
    finally:
        connection.close()
    return body if answer.status < http.client.MULTIPLE_CHOICES else b""
