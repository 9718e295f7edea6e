"""The columns of the conformance suite: each engine with each runtime, and what differs in it, as data.

The rows are the tests of this folder. A row that a column cannot satisfy stands in `cannot` with the reason: it
is run all the same, and is an error once it passes. Which columns are run: RUNYARD_TEST_COLUMNS, all when unset.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sandbox.engines.oci.runsc import best_platform, known_flags


@dataclass(frozen=True)
class Column:
    """`uid` is what a program sees of itself: None where it is that of the slot."""

    engine: str
    runtime: str
    #: Where its warm sandboxes come from.
    source: str = "pool"
    uid: int | None = 1000
    user_namespace: bool = True
    #: Whether our profile is in force.
    seccomp: bool = True
    #: gVisor.
    own_kernel: bool = False
    #: A pool of its own is started for every column but the service's.
    warm_pool: str = "python=3,bash=3"
    #: Until its pool is full: Docker takes a while to load the images.
    fill_s: float = 60
    #: Within this a program has begun that is not warm.
    begun_ms: int = 300
    #: Only in `make test-all`.
    slow: bool = False
    #: Names of tests, or of one case of a test as `name[case]`, with the reason.
    cannot: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.engine}/{self.runtime}" + (f"/{self.source}" if self.source != "pool" else "")


#: What follows from a kernel of the sandbox's own, whichever release of it.
GVISOR = {
    "test_memory_of_a_child_is_a_fact_beside_success": "the host kills gVisor's kernel, and all with it",
    "test_what_was_written_before_an_oom_comes_back": "the files were in the memory of the kernel that was killed",
    "test_memory_can_be_raised_and_work_grows_with_it": "its tmpfs keeps the size that it was started with",
    "test_inodes_are_bounded": "its tmpfs does not count inodes; they are part of the memory",
    "test_processes_are_bounded": "the host counts the tasks of gVisor's kernel too",
    "test_two_runs_have_different_namespaces": "its /proc/self/ns shows other namespaces",
    "test_capabilities_privileges_and_filter": "its /proc/self/status shows neither filter nor no_new_privs",
    "test_calls_that_reach_beyond_are_refused": "unshare and chroot are answered by its own kernel, and lead nowhere",
    "test_the_agent_cannot_be_reached": "it heeds no dumpable flag and shields no PID 1; the run is then killed",
    "test_what_is_not_a_plain_small_file_is_left_out_with_its_reason[rmdir outputs; ln -s /etc outputs-symlink]": (
        "it opens a link that O_NOFOLLOW forbids; what it leads to is the sandbox's own"
    ),
    "test_sockets_of_other_families_are_refused": "its own kernel answers netlink, and knows of this sandbox alone",
    "test_what_the_kernel_tells_of_the_host_is_masked": "its /proc has few of these, and none of the host's",
    "test_a_program_that_fails_has_its_hint[a read-only file]": "it answers EACCES, as for a file of another user",
    "test_a_program_that_fails_has_its_hint[disk]": "its tmpfs keeps the size that it was started with",
    "test_a_program_that_fails_has_its_hint[threads]": "the host counts the tasks of gVisor's kernel too",
}
#: What Debian 12's release of 2022 cannot do and a later one can.
GVISOR_2022 = {
    "test_a_process_owns_its_terminal": "its /dev/tty cannot be opened",
    "test_ctrl_c_reaches_the_foreground_group": "its terminals make no signals of what is typed",
    "test_the_terminals_of_a_sandbox_are_its_own": "its /dev/pts cannot be listed",
    "test_inputs_and_outputs_belong_to_the_run": "it refuses a flag of statx that stat(1) gives",
}
#: And the other way about.
GVISOR_CURRENT = {
    "test_nothing_of_the_host_lies_in_its_file_system": "its /sys is not empty; it tells of its own kernel",
}


def _gvisor() -> dict[str, str]:
    """For the release that is installed here."""
    return GVISOR | (GVISOR_CURRENT if best_platform(known_flags()) == "systrap" else GVISOR_2022)


SERVICE = Column("oci", "crun", "template")
COLUMNS = {
    column.id: column
    for column in (
        SERVICE,
        Column("oci", "crun", warm_pool="python=3,bash=3,node=1"),
        Column("oci", "runc"),
        Column("oci", "runc", "template", slow=True),
        Column(
            "oci",
            "runsc",
            user_namespace=False,
            seccomp=False,
            own_kernel=True,
            warm_pool="python=2,bash=3",
            fill_s=120,
            begun_ms=3000,
            cannot=_gvisor(),
        ),
        Column(
            "docker",
            "runsc",
            uid=None,
            user_namespace=False,
            seccomp=False,
            own_kernel=True,
            warm_pool="python=2,bash=3",
            fill_s=300,
            begun_ms=3000,
            cannot=_gvisor(),
        ),
        Column("docker", "runc", uid=None, user_namespace=False, fill_s=300),
    )
}


def chosen() -> list[str]:
    """The columns to run; an unknown one is an error, not an empty run."""
    wanted = os.environ.get("RUNYARD_TEST_COLUMNS")
    names = [name.strip() for name in wanted.split(",")] if wanted else list(COLUMNS)
    unknown = set(names) - set(COLUMNS)
    if unknown:
        raise ValueError(f"RUNYARD_TEST_COLUMNS: unknown {sorted(unknown)}; known: {sorted(COLUMNS)}")
    return names
