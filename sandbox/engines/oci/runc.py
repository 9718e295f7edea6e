"""Starting a sandbox with runc.

runc has no option to ignore control groups. It is given the sandbox's own group by path: it finds those of
the four controllers that we have made and bounded, leaves the bounds as they are, and makes more of the same name
under the other controllers, which `forget` removes. If the group is not empty it refuses, or warns; so
nothing is moved there beforehand, and PID 1 is put there by runc before it executes anything.

It sets resource limits from outside of the sandbox's user namespace, which takes CAP_SYS_RESOURCE. A root without
it may still lower those of runc itself, before it does anything, and all that it starts inherits them.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path

from sandbox.engines.cgroups.mounts import directories_named
from sandbox.engines.confinement import rlimits
from sandbox.engines.oci.crun import read_pid, remove_state
from sandbox.engines.oci.launcher import CONFIG_PATH, Launcher
from sandbox.engines.runtime_features import RuntimeFeatures

#: From this version on it reads the id maps of a namespace that it joins, and refuses a configuration that has maps
#: and the path. Earlier ones need the maps. Measured with 1.1.5, 1.1.15 and 1.3.6; the release notes name 1.1.11.
READS_ID_MAPS = (1, 1, 11)


class Runc:
    """The runtime and its state directory (which must be on a file system of the worker's own)."""

    name = "runc"
    platform: str | None = None

    def __init__(self, root: Path, instance: str) -> None:
        self._launcher = Launcher(self.name)
        self.traits = RuntimeFeatures(
            sets_rlimits=False,
            takes_id_maps=self._launcher.version.number < READS_ID_MAPS,
            time_namespace=False,  # from 1.2 on
        )
        self._root = root
        self._instance = instance
        root.mkdir(mode=0o700, exist_ok=True)

    def start(
        self,
        name: str,
        bundle: str,
        config: bytes,
        stream_fd: int,
        enter: Callable[[int], None],  # noqa: ARG002  # see above
        *,
        limited: bool = True,
    ) -> int:
        """Start a sandbox; see `Runtime.start`."""
        pid_file = f"{bundle}/pid"
        os.symlink(CONFIG_PATH, f"{bundle}/config.json")
        arguments = [f"--root={self._root}", "run", "--detach"]
        arguments += [f"--bundle={bundle}", f"--pid-file={pid_file}", name]
        self._launcher.run(arguments, stream_fd, config, _limit if limited else _leave)
        return read_pid(pid_file)

    def compiled_filter(self, name: str) -> bytes | None:  # noqa: ARG002  # it leaves none
        """Return None: runc compiles the profile for each sandbox and does not give it away."""
        return None

    def forget(self, name: str) -> None:
        """Remove the state and the further control groups of an exited sandbox."""
        remove_state(f"{self._root}/{name}")
        for path in directories_named(f"{self._instance}/{name}"):
            with contextlib.suppress(OSError):  # the group may still count exited processes: it is removed next
                os.rmdir(path)

    def close(self) -> None:
        self._launcher.close()


def _leave(_pid: int) -> None:
    """Leave a process with the worker's own resource limits."""


def _limit(pid: int) -> None:
    """Hold a process to the resource limits of a sandbox."""
    for name, bound in rlimits().items():
        resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (bound, bound))
