"""The OCI runtime behind the engine: what it must be able to do, and which one is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sandbox.engines.oci.crun import Crun
from sandbox.engines.oci.runc import Runc
from sandbox.engines.oci.runsc import Runsc
from sandbox.engines.runtime_features import RuntimeFeatures
from sandbox.engines.runtimes import RUNTIMES, find_runtime


class Runtime(Protocol):
    """Starts sandboxes from configurations written here. `start` may be called from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def traits(self) -> RuntimeFeatures: ...

    @property
    def platform(self) -> str | None:
        """Return gVisor's platform, which intercepts system calls; None for other runtimes."""
        ...

    def start(
        self,
        name: str,
        bundle: str,
        config: bytes,
        stream_fd: int,
        enter: Callable[[int], None],
        *,
        limited: bool = True,
    ) -> int:
        """Start a sandbox whose PID 1 has `stream_fd` as descriptors 0 and 1; the host's pid of it.

        `enter` moves a process into the sandbox's control group; a runtime that can be moved there before it
        does anything is. `limited` holds it to a sandbox's resource limits where the configuration cannot. Raises
        EngineError with the runtime's message.
        """
        ...

    def compiled_filter(self, name: str) -> bytes | None:
        """Return a sandbox's seccomp filter in the kernel's format, if the runtime can show and accept it."""
        ...

    def forget(self, name: str) -> None:
        """Remove the runtime's state of an exited sandbox."""
        ...

    def close(self) -> None: ...


def open_runtime(wanted: str | None, root: Path, instance: str) -> Runtime:
    """Return the runtime that RUNTIME selects, or the first installed one. Raises EngineUnusable."""
    name = wanted or next((name for name in RUNTIMES if find_runtime(name)), RUNTIMES[0])
    if name == "crun":
        return Crun(root)
    if name == "runc":
        return Runc(root, instance)
    return Runsc(root)
