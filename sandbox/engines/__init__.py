"""Engines: each hands back a fresh sandbox as a byte stream plus a few powers over it, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from protocol.limits import Limits
from protocol.result import Isolation
from sandbox.images import Image

if TYPE_CHECKING:
    from sandbox.engines.pid1_status import ProcessView


class EngineError(Exception):
    """The engine could not do what it is for. Its text is for the log, never for a client."""


class SandboxBroken(EngineError):
    """The content of a sandbox is not as an honest agent leaves it; the program did this."""


class NotConfined(EngineError):
    """A layer of confinement is not in force; the text names it, for the log."""


class EngineUnusable(EngineError):
    """The engine cannot work on this machine; the text says what to install or change."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Kernel counters of a sandbox's cgroup."""

    cpu_ns: int
    memory_peak_bytes: int
    oom_kills: int


class Stream(Protocol):
    """A two-way byte stream: as much of a socket as a conversation needs, with a socket's exceptions.

    Nothing may be read ahead behind the descriptor: it is polled.
    """

    def fileno(self) -> int: ...

    def settimeout(self, value: float | None, /) -> None: ...

    def setblocking(self, flag: bool, /) -> None: ...  # noqa: FBT001  # as socket has it

    def recv(self, size: int, /) -> bytes: ...

    def send(self, data: bytes | memoryview, /) -> int: ...

    def close(self) -> None: ...


class Sandbox(Protocol):
    """One single-use sandbox whose agent is starting or waiting."""

    @property
    def id(self) -> str: ...

    @property
    def image(self) -> Image: ...

    @property
    def stream(self) -> Stream:
        """Return the two-way stream to the agent; closing it ends the sandbox."""
        ...

    def measure(self) -> None:
        """Hold what the kernel says of PID 1, once it is ready, against what must be. Raises NotConfined."""
        ...

    def process_view(self) -> ProcessView:
        """Return where the host's kernel describes the sandbox's processes. Raises EngineError if they are gone."""
        ...

    def report_not_ready(self) -> None:
        """Report that the agent did not become ready, so that its source can back off."""
        ...

    def quarantine_source(self) -> bool:
        """Quarantine the source of a sandbox that failed the confinement check; return whether another source takes
        over.
        """
        ...

    def apply(self, limits: Limits) -> bool:
        """Put the limits of a job in force. False if this sandbox already holds more than they allow."""
        ...

    def enter_compile_phase(self, limits: Limits) -> None:
        """Put the wider limits of the compile phase in force, after `apply`, and count what it uses."""
        ...

    def leave_compile_phase(self) -> bool:
        """Close the build directory, go back to what `apply` set, and count anew: only the agent is alive.

        False if what was built does not fit into that memory. Raises SandboxBroken if something still writes there.
        """
        ...

    def raise_memory_limit(self, reserve_mb: int) -> None:
        """Raise the memory limit by a reserve, for collecting artifacts after the program's end."""
        ...

    def stats(self) -> Stats:
        """Return the usage since `apply`."""
        ...

    def facts(self) -> Isolation:
        """Return the confinement in force; the caller fills in `source`."""
        ...

    def kill(self) -> None:
        """Kill every process of the sandbox, now. Idempotent, safe from any thread."""
        ...

    def destroy(self) -> None:
        """Kill, wait until everything is dead, and remove every trace. Idempotent."""
        ...


class Engine(Protocol):
    """Makes sandboxes. `create` may be called from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def runtime(self) -> str: ...

    @property
    def has_templates(self) -> bool:
        """Return whether sandboxes are forked from templates, of which a language may have several variants."""
        ...

    def create(
        self, image: Image, *, hold: bool = True, flavour: str = "", container: bool = False, owner: str = ""
    ) -> Sandbox:
        """Create a sandbox of a runner image with the default limits; `hold` starts its interpreter ahead.

        `flavour` names the template to prefer, `owner` whose; `container` is for one that comes from none.
        Raises EngineError.
        """
        ...

    def has_own_template(self, image: Image, flavour: str, owner: str) -> bool:
        """Return whether the owner's own template exists, where each owner has one; if not, boot it in the
        background.
        """
        ...

    def cleanup_stale(self) -> int:
        """Remove what a dead worker of this service left; how many sandboxes there were."""
        ...

    def stop(self) -> None:
        """Let a `create` that would take long fail, since the service stops."""
        ...

    def close(self) -> None:
        """Give back what the engine itself holds."""
        ...
