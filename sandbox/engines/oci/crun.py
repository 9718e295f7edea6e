"""Starting a sandbox with crun, at the least cost.

Compiling the seccomp profile takes crun a few milliseconds; it writes the compiled filter into its state
directory. The first sandbox's is handed to the later ones (annotation `run.oci.seccomp_bpf_data`, see crun(1)).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from sandbox.engines.oci.launcher import CONFIG_PATH, Launcher
from sandbox.engines.runtime_features import RuntimeFeatures


class Crun:
    """The runtime and its state directory (which must be on a file system of the worker's own)."""

    name = "crun"
    platform: str | None = None
    traits = RuntimeFeatures()

    def __init__(self, root: Path) -> None:
        self._launcher = Launcher(self.name)
        self._root = root
        root.mkdir(mode=0o700, exist_ok=True)

    def start(
        self,
        name: str,
        bundle: str,
        config: bytes,
        stream_fd: int,
        enter: Callable[[int], None],
        *,
        limited: bool = True,  # noqa: ARG002  # the configuration does
    ) -> int:
        """Start a sandbox; see `Runtime.start`."""
        pid_file = f"{bundle}/pid"
        arguments = [f"--root={self._root}", "--cgroup-manager=disabled", "run", "--detach"]
        arguments += [f"--bundle={bundle}", f"--config={CONFIG_PATH}", f"--pid-file={pid_file}", name]
        self._launcher.run(arguments, stream_fd, config, enter)
        return read_pid(pid_file)

    def compiled_filter(self, name: str) -> bytes | None:
        """Return the seccomp filter that crun compiled for a sandbox, in the kernel's format."""
        with contextlib.suppress(OSError):
            return (self._root / name / "seccomp.bpf").read_bytes() or None
        return None

    def forget(self, name: str) -> None:
        """Remove the state of an exited sandbox; `crun delete` would do no more here."""
        remove_state(f"{self._root}/{name}")

    def close(self) -> None:
        self._launcher.close()


def read_pid(pid_file: str) -> int:
    """Return the host's pid of PID 1 from the runtime's pid file."""
    with open(pid_file) as file:
        return int(file.read())


def remove_state(place: str) -> None:
    """Remove a runtime's directory about one sandbox."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir(place):
            os.unlink(f"{place}/{entry}")
        os.rmdir(place)
