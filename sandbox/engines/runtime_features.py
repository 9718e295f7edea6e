"""Describe the differences between OCI runtimes that the engines must know."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.engines.cgroups.group import Bounds

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RuntimeFeatures:
    """The defaults are crun's."""

    #: It applies the configuration's resource limits; otherwise `start` does.
    sets_rlimits: bool = True
    #: It joins the slot's user namespace.
    user_namespace: bool = True
    #: It needs the id maps of a user namespace that it joins in its configuration; else it reads them there.
    takes_id_maps: bool = True
    #: It makes time namespaces, if the kernel has them.
    time_namespace: bool = True
    #: It loads the seccomp profile.
    seccomp: bool = True
    #: It makes /dev, /dev/pts and the masks of /proc itself.
    own_devices: bool = False
    #: The sandbox's tmpfs mounts are the host's kernel's, and can be resized from here.
    resizes_tmpfs: bool = True
    #: There are processes in the control group that do not end with PID 1.
    helpers: bool = False
    #: The runtime's own usage of the control group, on top of the sandbox's.
    headroom_memory_bytes: int = 0
    headroom_pids: int = 0

    def with_headroom(self, bounds: Bounds) -> Bounds:
        """Return the control group's limits that give the sandbox `bounds`."""
        return Bounds(
            bounds.memory_bytes + self.headroom_memory_bytes, bounds.cpus, bounds.pids + self.headroom_pids
        )


#: gVisor, under any engine: the program's kernel is a process of the control group, with helper
#: processes, confines itself, and has file systems and devices of its own. A waiting sandbox was measured to take
#: 25 MB and 40 threads; more of them come with the program's own.
GVISOR = RuntimeFeatures(
    user_namespace=False,
    time_namespace=False,
    seccomp=False,
    own_devices=True,
    resizes_tmpfs=False,
    helpers=True,
    headroom_memory_bytes=96 * MIB,
    headroom_pids=256,
)


def features_of(runtime: str) -> RuntimeFeatures:
    """Return the features of a runtime of a daemon, by its name there: gVisor's begins with `runsc`."""
    return GVISOR if runtime.startswith("runsc") else RuntimeFeatures()
