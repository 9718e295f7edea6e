"""The calls this engine makes of the Docker daemon, each bounded in time; all else of the SDK stays behind here."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils import convert_filters
from urllib3.exceptions import HTTPError

from sandbox.engines import EngineError, EngineUnusable

#: The slowest of them, creating and removing, take tens of milliseconds on an idle machine.
CALL_TIMEOUT_S = 20.0
#: From one byte of an image's loading to the next.
LOAD_TIMEOUT_S = 300
OLDEST_API = (1, 41)
CONFLICT = 409
SERVER_ERROR = 500
#: Seconds from the end of a container's PID 1 to the daemon's event.
END_EVENT_S = 2.0
#: Seconds from the event of a container's end to that of the OOM kill that has ended it.
LATE_EVENT_S = 0.5


class ImageMissing(EngineError):
    """The daemon does not have the image that a container was to be made of."""


@dataclass(frozen=True, slots=True)
class About:
    """The facts of a daemon."""

    api: str
    version: str
    #: The arguments that each is started with, by name.
    runtimes: dict[str, tuple[str, ...]]
    default_runtime: str
    cgroup_driver: str
    #: Its directory of images, as a path on its own host.
    root: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """An upgraded attach connection: its socket, and what had come with the answer's headers."""

    socket: socket.socket
    early: bytes


class Daemon:
    """One Docker daemon. Safe to use from any thread."""

    def __init__(self, base_url: str, timeout_s: float | None = None) -> None:
        """Connect to the daemon. Raises EngineUnusable if none answers there, or one that is too old.

        `timeout_s` are the seconds that each call may take, by default CALL_TIMEOUT_S.
        """
        self._base_url = base_url
        self._timeout_s = timeout_s or CALL_TIMEOUT_S
        self._api = "auto"
        self._local = threading.local()
        try:
            _probe(base_url, self._timeout_s)
            version = self._client.version()
            info = self._client.info()
        except (OSError, DockerException, requests.RequestException, ValueError) as e:
            raise EngineUnusable(
                f"no Docker daemon answers at DOCKER_HOST={base_url}: install one (apt-get install docker.io) "
                f"and start it ({_short(e)})"
            ) from e
        self.about = About(
            api=version["ApiVersion"],
            version=version["Version"],
            runtimes={
                name: tuple(about.get("runtimeArgs") or ()) for name, about in (info.get("Runtimes") or {}).items()
            },
            default_runtime=info.get("DefaultRuntime", ""),
            cgroup_driver=info.get("CgroupDriver", ""),
            root=info.get("DockerRootDir", ""),
        )
        if tuple(map(int, self.about.api.split("."))) < OLDEST_API:
            raise EngineUnusable(
                f"the Docker daemon at {base_url} has API {self.about.api}: 1.41 (Docker 20.10) is the oldest"
            )
        self._api = self.about.api

    @property
    def _client(self) -> Any:  # noqa: ANN401  # the SDK has no types
        """Return this thread's client: a session must not be shared, and an attach blocks its connection."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = docker.APIClient(
                self._base_url, version=self._api, timeout=self._timeout_s
            )
        return client

    def create(self, name: str, config: dict[str, Any]) -> str:
        """Create a container; its id. Raises ImageMissing."""
        with _errors("create"):
            try:
                return str(self._client.create_container_from_config(config, name)["Id"])
            except NotFound as e:
                raise ImageMissing(f"docker create: {_short(e)}") from e

    def attach(self, container: str) -> Attached:
        """Attach to a container's three streams. Call it before the start, or the first output is lost."""
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        with _errors("attach"):
            client = self._client
            # The same as the SDK's attach_socket, with the timeout that it lacks.
            url = client._url("/containers/{0}/attach", container)
            answer = client.post(url, None, params=params, headers=headers, stream=True, timeout=self._timeout_s)
            return take_over(client._get_raw_response_socket(answer))

    def start(self, container: str) -> None:
        with _errors("start"):
            self._client.start(container)

    def pid(self, container: str) -> int:
        """Return the host's pid of a container's PID 1. Raises EngineError if it does not run."""
        with _errors("inspect"):
            pid = int(self._client.inspect_container(container)["State"]["Pid"])
        if pid <= 0:
            raise EngineError("PID 1 ended at once")
        return pid

    def update(self, container: str, fields: dict[str, Any]) -> None:
        """Change a running container's limits; `fields` as in the API's ContainerUpdate."""
        with _errors("update"):
            client = self._client  # whose own method knows neither pids nor processors
            response = client._post_json(client._url("/containers/{0}/update", container), data=fields)
            client._result(response, True)

    def pause(self, container: str) -> None:
        """Freeze a container; the daemon answers when it is."""
        with _errors("pause"):
            self._client.pause(container)

    def unpause(self, container: str) -> None:
        """Let a container go on; without effect on one that is not paused."""
        with _errors("unpause"):
            try:
                self._client.unpause(container)
            except APIError as e:
                if e.status_code not in (CONFLICT, SERVER_ERROR):  # by version: it is not paused
                    raise

    def ran_out_of_memory(self, container: str, since: float) -> bool:
        """Return whether an OOM kill happened in a container since then, in seconds since the epoch.

        For one that is ending, or has ended and may be removed by now: waits for its end for a moment.
        """
        first = self._first_event(container, ("oom", "die"), since, within_s=END_EVENT_S)
        if first == "die":  # the two come to the daemon by different ways, in either order
            first = self._first_event(container, ("oom",), since, within_s=LATE_EVENT_S)
        return first == "oom"

    def _first_event(
        self, container: str, actions: tuple[str, ...], since: float, *, within_s: float
    ) -> str | None:
        """Return the first of these events of a container since then; waits for it. None if there is none."""
        filters = {"container": container, "event": list(actions)}
        asked = {"since": since, "until": time.time() + within_s, "filters": convert_filters(filters)}
        with _errors("events"):
            client = self._client
            # The same as the SDK's events, with the timeout that it lacks.
            answer = client._get(client._url("/events"), params=asked, stream=True, timeout=self._timeout_s)
            with contextlib.closing(answer):
                events = client._stream_helper(answer, decode=True)
                return next((event["Action"] for event in events if event["Action"] in actions), None)

    def remove(self, container: str) -> bool:
        """Kill and remove a container. False while the daemon is still about it; one that is gone is removed."""
        with _errors("remove"):
            try:
                self._client.remove_container(container, v=True, force=True)
            except NotFound:
                return True
            except APIError as e:
                if e.status_code == CONFLICT:  # its own removal, after the end, is under way
                    return False
                raise
        return True

    def labelled(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """Return every container, running or not, with all these labels: `Id` and `Labels` of each."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with _errors("list"):
            return list(self._client.containers(all=True, filters={"label": wanted}))

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return the daemon's facts of an image; None if it has no image of that name."""
        with _errors("inspect image"):
            try:
                return dict(self._client.inspect_image(reference))
            except NotFound:
                return None

    def load(self, archive: Iterable[bytes]) -> None:
        """Load images from an archive such as `docker save` writes."""
        client = docker.APIClient(self._base_url, version=self._api, timeout=LOAD_TIMEOUT_S)
        with _errors("load"), contextlib.closing(client):
            for line in client.load_image(archive):
                if "error" in line:
                    raise EngineError(f"docker load: {line['error']}")

    def close(self) -> None:
        """Let this thread's client go; those of other threads go with them."""
        if (client := getattr(self._local, "client", None)) is not None:
            client.close()
            del self._local.client


def _probe(base_url: str, timeout_s: float) -> None:
    """Check that a server listens there. Raises OSError. The SDK would leak a socket for this check."""
    kind, _, path = base_url.partition("://")
    if kind != "unix":
        raise OSError("it must be a socket of this host, unix:///…")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout_s)
        probe.connect(path)


def take_over(found: Any) -> Attached:  # noqa: ANN401  # an untyped object of the SDK
    """Extract the plain socket from the SDK's upgraded answer, and release the rest of it.

    The SDK read the answer's headers through a buffered reader: bytes of the same packet are in its buffer and
    would be missed by a read from the socket. They are read first, without waiting.
    """
    inner, response = found._sock, found._response
    inner.setblocking(False)
    early = bytes(response.raw._fp.fp.peek())
    ours = socket.socket(fileno=os.dup(inner.fileno()))
    ours.setblocking(True)
    response.close()
    return Attached(ours, early)


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except (DockerException, requests.RequestException, HTTPError) as e:  # the last while reading a stream
        raise EngineError(f"docker {what}: {_short(e)}") from e


def _short(error: Exception) -> str:
    text = error.explanation if isinstance(error, APIError) and error.explanation else error
    return str(text)[:500]
