"""Wait for the layers of packages that runs and sessions ask for, and hold them until their end.

A layer is made, or found, by a call that blocks. It is made on a thread of its own, so that the owner of a run can
tell its listeners meanwhile, and can leave when its client does.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from protocol.packages import PackagesFailed
from sandbox.run.live import LiveRun

log = logging.getLogger(__name__)

#: The lines of a tool's output that a run or session is shown, and the characters of each.
MAX_LINES = 200
MAX_LINE_CHARS = 300
#: Runs and sessions that wait for a layer, in all and of one key.
MOST_WAITING = 256
MOST_OF_KEY = 64
#: The bytes of code and files of the jobs that wait, in all and of one key.
WAITING_BYTES = 256 * 1024 * 1024
KEY_BYTES = 64 * 1024 * 1024
#: Time for a maker of layers to report that its time is over.
GRACE_S = 2.0
#: A wait longer than this is reported as `queued`; a layer that is there already takes less.
SILENT_S = 0.05
TICK_S = 1.0


class ResolvedPackage(Protocol):
    """A package as it was resolved; `sha256` is that of the file from the registry."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def version(self) -> str:
        """Return its version."""
        ...

    @property
    def sha256(self) -> str:
        """Return the hash of its file."""
        ...


class KnownLayer(Protocol):
    """The facts of a layer that a key has used. `created_at` is in seconds since 1970."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...

    @property
    def language(self) -> str:
        """Return the id of its language."""
        ...

    @property
    def packages(self) -> tuple[ResolvedPackage, ...]:
        """Return all that was installed, in a fixed order."""
        ...

    @property
    def size(self) -> int:
        """Return the bytes that it takes on the disk."""
        ...

    @property
    def created_at(self) -> float:
        """Return the time at which it was made."""
        ...


@dataclass(frozen=True, slots=True)
class ReadyLayer:
    """A layer that is held: `files` is the directory with its packages.

    `lock` is a descriptor that keeps the layer from removal, as does each copy of it; -1 if there is none.
    """

    id: str
    files: Path
    packages: tuple[ResolvedPackage, ...] = ()
    lock: int = -1


class PackageLayers(Protocol):
    """Makes layers, or finds those that were made."""

    def ready(
        self,
        *,
        key: str,
        language: str,
        packages: tuple[str, ...],
        on_output: Callable[[str], None],
        patience_s: float,
    ) -> AbstractContextManager[ReadyLayer]:
        """Hold the layer with these packages (normal form, sorted), which is made if there is none.

        To enter blocks for at most `patience_s` and calls `on_output`, which neither raises nor blocks, with each
        line of the tool's output. The context may be left on another thread. Raises PackagesFailed; its `index` is
        the place in `packages`, and its message does not name the field.
        """
        ...

    def at_hand(
        self, *, key: str, language: str, packages: tuple[str, ...]
    ) -> AbstractContextManager[ReadyLayer | None]:
        """Hold the layer with these packages if it was made before; None if it is to be made. Does not block."""
        ...

    def known_to(self, key: str, layer_id: str) -> KnownLayer | None:
        """Return the facts of a layer that the key has used; None for every other."""
        ...


def layer_facts(layer: KnownLayer) -> dict[str, Any]:
    """Return the facts of a layer as JSON-ready data."""
    return {
        "id": layer.id,
        "language": layer.language,
        "packages": [
            {"name": package.name, "version": package.version, "sha256": package.sha256}
            for package in layer.packages
        ],
        "size": layer.size,
        "created_at": layer.created_at,
    }


class TooManyWait(Exception):
    """More runs and sessions wait for layers, or their jobs have more bytes, than may be kept waiting."""


class LayerWait:
    """One wait for a layer. `fd` is readable when there is news; used by one thread, which must close it."""

    def __init__(
        self, layers: PackageLayers, *, key: str, language: str, packages: tuple[str, ...], patience_s: float
    ) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.deadline = time.monotonic() + patience_s + GRACE_S
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._lines: deque[str] = deque()
        self._lines_left = MAX_LINES
        self._held = ExitStack()
        self._layer: ReadyLayer | None = None
        self._failure: BaseException | None = None
        self._is_closed = False

        def make() -> None:
            try:
                with ExitStack() as held:
                    ready = layers.ready(
                        key=key, language=language, packages=packages, on_output=self._tell, patience_s=patience_s
                    )
                    layer = held.enter_context(ready)
                    with self._lock:
                        if not self._is_closed:
                            self._layer, self._held = layer, held.pop_all()
            except BaseException as e:  # noqa: BLE001  # raised to the thread that waits
                self._failure = e
            self._wake()

        threading.Thread(target=make, name="packages", daemon=True).start()

    def news(self) -> list[str]:
        """Return the lines of output since the last call."""
        with self._lock:
            with suppress(BlockingIOError):
                os.eventfd_read(self.fd)
            lines = list(self._lines)
            self._lines.clear()
        return lines

    @property
    def is_over(self) -> bool:
        """Return whether `layer` returns or raises. Read it before `news`: no line comes after that."""
        return self._layer is not None or self._failure is not None or time.monotonic() >= self.deadline

    def layer(self) -> ReadyLayer | None:
        """Return the layer; None while it is being made. Raises PackagesFailed, or what making it raised."""
        if self._failure is not None:
            raise self._failure
        if self._layer is None and time.monotonic() >= self.deadline:
            message = f"were not ready within {self._patience_s:g} s (PACKAGES_TIMEOUT_S)"
            raise PackagesFailed("package_build_failed", message)
        return self._layer

    def close(self) -> None:
        """Release the layer; one that is still being made is released when it is ready."""
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
        self._held.close()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._is_closed or not self._lines_left:
                return
            self._lines_left -= 1
            text = line.rstrip()[:MAX_LINE_CHARS].encode("utf-8", "replace").decode()
            self._lines.append(text if self._lines_left else "more output is not shown")
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self.fd, 1)


class LayerSupply:
    """The layers of one worker's runs and sessions, with a bound on those that wait. Safe for threads."""

    def __init__(self, layers: PackageLayers, timeout_s: float) -> None:
        self._layers = layers
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()

    def enter(self, key: str, size: int = 0) -> None:
        """Count a job of `size` bytes among those that wait; end it by `leave`. Raises TooManyWait."""
        with self._lock:
            number, held = self._waiting, self._sizes
            if number[key] >= MOST_OF_KEY or number.total() >= MOST_WAITING:
                raise TooManyWait("too many runs and sessions wait for packages")
            if size and (held[key] + size > KEY_BYTES or held.total() + size > WAITING_BYTES):
                raise TooManyWait("the jobs that wait for packages hold all the memory that they may")
            number[key] += 1
            held[key] += size

    def leave(self, key: str, size: int = 0) -> None:
        """Count a job no longer."""
        with self._lock:
            self._waiting[key] -= 1
            self._sizes[key] -= size
            if not self._waiting[key]:
                del self._waiting[key], self._sizes[key]

    def at_hand(
        self, *, key: str, language: str, packages: tuple[str, ...]
    ) -> AbstractContextManager[ReadyLayer | None]:
        """Hold a layer without a thread to wait for it; None if it is not there, and `wait` is needed."""
        return self._layers.at_hand(key=key, language=language, packages=packages)

    def wait(self, *, key: str, language: str, packages: tuple[str, ...]) -> LayerWait:
        """Begin to wait for a layer."""
        return LayerWait(self._layers, key=key, language=language, packages=packages, patience_s=self._timeout_s)

    def known_to(self, key: str, layer_id: str) -> KnownLayer | None:
        """Return the facts of a layer that the key has used; None for every other."""
        return self._layers.known_to(key, layer_id)


def await_layer_for(
    waiting: LayerWait, on_line: Callable[[str], None], is_wanted: Callable[[], bool]
) -> ReadyLayer | None:
    """Wait for a layer that no run asks for. Returns None once it is not wanted any more.

    Raises PackagesFailed, or what making the layer or `on_line` raised.
    """
    poller = select.poll()
    poller.register(waiting.fd, select.POLLIN)
    while True:
        is_over = waiting.is_over
        for line in waiting.news():
            on_line(line)
        if not is_wanted():
            return None
        if is_over:
            return waiting.layer()
        left_s = min(waiting.deadline - time.monotonic(), TICK_S)
        poller.poll(max(left_s, 0) * 1000 + 0.5)


def await_layer(waiting: LayerWait, live: LiveRun) -> ReadyLayer | None:
    """Wait on the thread of a run's owner, and emit the tool's output. Returns None if the run was ended early.

    Raises PackagesFailed, or what making the layer raised.
    """
    quiet_until = time.monotonic() + SILENT_S
    is_reported = False
    while True:
        is_over = waiting.is_over
        lines = waiting.news()
        if not is_reported and (lines or time.monotonic() >= quiet_until):
            is_reported = True
            live.status("queued")
        for line in lines:
            live.emit("info", (live.info or {}) | {"output": line})
        if live.stop is not None:
            return None
        if is_over:
            return waiting.layer()
        left_s = min(waiting.deadline, time.monotonic() + TICK_S if is_reported else quiet_until) - time.monotonic()
        poller = select.poll()
        poller.register(waiting.fd, select.POLLIN)
        live.register(poller)
        for fd, event in poller.poll(max(left_s, 0) * 1000 + 0.5):
            live.handle_event(fd, event)
        live.tick()
