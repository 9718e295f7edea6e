"""The columns of the conformance suite: each engine with each runtime, and what differs in it, as data.

The rows are the tests of this folder. A row that a column cannot satisfy stands in `cannot` with the reason: it
is run all the same, and is an error once it passes. Which columns are run: RUNYARD_TEST_COLUMNS, all when unset.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """`uid` is what a program sees of itself: None where it is that of the slot."""

    engine: str
    runtime: str
    uid: int | None = 1000
    user_namespace: bool = True
    #: Whether our profile is in force.
    seccomp: bool = True
    #: A pool of its own is started for every column but the service's.
    warm_pool: str = "python=3,bash=3,node=1"
    #: Until its pool is full: Docker takes a while to load the images.
    fill_s: float = 60
    cannot: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.engine}/{self.runtime}"


SERVICE = Column("oci", "crun")
COLUMNS = {
    column.id: column
    for column in (
        SERVICE,
        Column("oci", "runc"),
        Column("oci", "runsc", user_namespace=False, seccomp=False, warm_pool="python=2,bash=3", fill_s=90),
        Column("docker", "runc", uid=None, user_namespace=False, fill_s=180),
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
