"""Count the resources of runs: places and memory, in a general and a reserved part, and one run's reservation."""

from __future__ import annotations

from dataclasses import dataclass

RESERVE_PART = 8
LEAST_RESERVED_PLACES = 2
LEAST_RESERVED_MB = 512


def reserve_of(whole: int, least: int) -> int:
    """Return how much of a resource is reserved for keys that hold little."""
    return max(least, whole // RESERVE_PART) if whole >= 2 * least else 0


@dataclass(slots=True)
class ResourcePool:
    """One part of the places and of the memory."""

    most: int
    memory_mb: int
    running: int = 0
    used_mb: int = 0

    @property
    def free_mb(self) -> int:
        return max(0, self.memory_mb - self.used_mb)


class Reservation:
    """A run's place: held already, or waited for."""

    __slots__ = (
        "deadline", "evicted", "general_mb", "held", "key", "memory_mb", "most_running", "of_reserve", "passed_at",
        "size", "wake_fd",
    )  # fmt: skip

    def __init__(self, key: str, memory_mb: int, deadline: float = 0.0, most_running: int | None = None) -> None:
        self.key = key
        self.memory_mb = memory_mb
        self.most_running = most_running
        self.deadline = deadline
        self.wake_fd = -1
        #: The bytes of its job.
        self.size = 0
        self.held = self.evicted = False
        #: While it is held: whether its place is one of the reserve, and how much of its memory is general.
        self.of_reserve = False
        self.general_mb = 0
        #: When another run was first admitted in front of it.
        self.passed_at: float | None = None
