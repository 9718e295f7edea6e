"""Starting a sandbox with runsc, gVisor: the program's system calls are answered by a kernel in user space.

Its differences from crun and runc, each a trait:

* PID 1 on the host is that kernel (the sentry), with helper processes; the program's own processes are inside.
  So the control group holds the sentry too, and is given that much more. A program that takes all its memory
  brings the sentry down, and the run with it.
* It confines itself, in a user namespace and under a seccomp filter of its own; it takes no user namespace from
  us, and it silently ignores our seccomp profile.
* File systems and devices are its own: what is mounted has the size it was started with.

Platforms: a current runsc has systrap; that of Debian 12 (2022) only ptrace, which is slower, and kvm, which is of
no use inside of most virtual machines.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from sandbox.engines.oci.crun import read_pid
from sandbox.engines.oci.launcher import Launcher
from sandbox.engines.runtime_features import GVISOR
from sandbox.engines.runtimes import find_runtime

ASK_TIMEOUT_S = 10


class Runsc:
    """The runtime and its state directory."""

    name = "runsc"
    traits = GVISOR

    def __init__(self, root: Path) -> None:
        self._launcher = Launcher(self.name, gated=True)
        self._root = root
        flags = known_flags()
        self.platform: str | None = best_platform(flags)
        self._options = options_for(flags)
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
        with open(f"{bundle}/config.json", "wb") as file:
            file.write(config)
        arguments = [f"--root={self._root}", f"--platform={self.platform}", *self._options, "--ignore-cgroups"]
        arguments += ["run", "--detach", f"--bundle={bundle}", f"--pid-file={pid_file}", name]
        self._launcher.run(arguments, stream_fd, b"\n", enter)
        return read_pid(pid_file)

    def compiled_filter(self, name: str) -> bytes | None:  # noqa: ARG002  # it has none of ours
        """Return None: the profile is not used."""
        return None

    def forget(self, name: str) -> None:
        """Remove the state of an exited sandbox: files named after it."""
        for path in self._root.glob(f"{name}*"):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._launcher.close()


def options_for(flags: str) -> list[str]:
    """Return the start options that the flags of this runsc allow.

    Without directfs its kernel reaches files only through a helper, and is uid nobody on the host; with it, the
    default of current releases, it is the host's root with the capabilities of one over files.
    """
    return ["--network=none", *(["--directfs=false"] if "directfs" in flags else [])]


def best_platform(flags: str) -> str:
    """Return the best platform that the flags of this runsc allow."""
    return "systrap" if "systrap" in flags else "ptrace"


def known_flags() -> str:
    """Return the flags of the installed runsc; empty if there is none."""
    path = find_runtime("runsc")
    if path is None:
        return ""
    done = subprocess.run([path, "flags"], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False)
    return done.stdout + done.stderr
