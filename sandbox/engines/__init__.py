"""Engines: each hands back a fresh sandbox as a byte stream plus a few powers over it, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from protocol.limits import Limits
from protocol.result import Isolation
from sandbox.images import Image

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.engines.cgroups.freezer import Freezer
    from sandbox.engines.pid1_status import ProcessView
    from sandbox.engines.work_disk import WorkDisk


class EngineError(Exception):
    """The engine could not do what it is for. Its text is for the log, never for a client."""


class SandboxBroken(EngineError):
    """The content of a sandbox is not as an honest agent leaves it; the program did this."""


class NotConfined(EngineError):
    """A layer of confinement is not in force; the text names it, for the log."""


class EngineUnusable(EngineError):
    """The engine cannot work on this machine; the text names the remedy."""


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
        """Compare the kernel's status of the ready PID 1 with the expected one. Raises NotConfined."""
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

    def is_outdated(self) -> bool:
        """Return whether its source makes no more like it, and stays in memory only for what it made before."""
        ...

    def apply(self, limits: Limits, disk_mb: int | None = None) -> bool:
        """Apply the limits of a job or session. Returns False if this sandbox already uses more than they allow.

        `disk_mb` is the size of /work; by default a share of the memory.
        """
        ...

    def enter_compile_phase(self, limits: Limits) -> bool:
        """Apply the limits of the compile phase, after `apply`, and measure its usage.

        They are wider than the program's, unless the job sets them. Returns False if this sandbox uses more than
        they allow.
        """
        ...

    def leave_compile_phase(self) -> bool:
        """Make the build directory read-only, restore the limits of `apply` and reset the counters, with only the
        agent alive.

        False if what was built does not fit into that memory. Raises SandboxBroken if something still writes there.
        """
        ...

    def raise_memory_limit(self, reserve_mb: int) -> None:
        """Raise the memory limit by a reserve, for collecting artifacts after the program's end."""
        ...

    @property
    def pid(self) -> int:
        """Return the host's pid of the sandbox's PID 1."""
        ...

    def stats(self) -> Stats:
        """Return the usage since `apply`."""
        ...

    def refused_processes(self) -> int | None:
        """Return how often the kernel refused a process or thread because of `pids`; None if it is not known.

        Raises OSError or EngineError where the kernel does not count them, or the sandbox has ended.
        """
        ...

    def open_freezer(self) -> Freezer | None:
        """Return what freezes its processes, made ready while no program runs; None where nothing can."""
        ...

    def open_work_disk(self) -> WorkDisk | None:
        """Return what tells how much /work holds, closed with the sandbox; None where the host cannot see it."""
        ...

    def held_bytes(self) -> int:
        """Return the memory that it holds now. Raises OSError or EngineError once it has ended."""
        ...

    def facts(self) -> Isolation:
        """Return the measured confinement; the caller fills in `source`."""
        ...

    def kill(self) -> None:
        """Kill every process of the sandbox, now. Idempotent, safe from any thread."""
        ...

    def destroy(self) -> None:
        """Kill all processes, wait for their end, and remove every trace. Idempotent."""
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

    def create(  # one argument for each property that is chosen
        self,
        image: Image,
        *,
        hold: bool = True,
        flavour: str = "",
        container: bool = False,
        owner: str = "",
        layer: Path | None = None,
    ) -> Sandbox:
        """Create a sandbox of a runner image with the default limits; `hold` starts its interpreter ahead.

        `flavour` names the template to prefer, `owner` whose; `container` is for one that comes from none. `layer`
        is a directory with packages whose entries its root has beside those of the image. Raises EngineError.
        """
        ...

    def has_own_template(self, image: Image, flavour: str, owner: str) -> bool:
        """Return whether the owner's own template exists, where each owner has one; if not, boot it in the
        background.
        """
        ...

    def cleanup_stale(self) -> int:
        """Remove the sandboxes of a killed worker of this service. Returns their number."""
        ...

    def stop(self) -> None:
        """Let a `create` that would take long fail, since the service stops."""
        ...

    def close(self) -> None:
        """Release the engine's own resources."""
        ...
