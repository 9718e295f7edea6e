"""One queue of the warm pool: the ready sandboxes of one kind."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sandbox.engines import Sandbox
from sandbox.languages import Language

#: The way of a sandbox that is a container of its own where others are forked.
CONTAINER = "container"


@dataclass(slots=True, eq=False)
class ReadyQueue:
    """One language's ready sandboxes, those of one flavour of it, or its containers, of which none are kept.

    `making` are on their way.
    """

    language: Language
    size: int
    flavour: str = ""
    container: bool = False
    ready: deque[Sandbox] = field(default_factory=deque)
    making: int = 0
    #: In a row, of making one.
    failures: int = 0
    #: Until this time no sandbox is made.
    paused_until: float = float("-inf")
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = queue_name(self.language, CONTAINER if self.container else self.flavour)

    @property
    def ready_or_starting(self) -> int:
        """Return the number of sandboxes that are ready or being started."""
        return len(self.ready) + self.making

    @property
    def fill_ratio(self) -> float:
        """Return how full the queue is, from 0 to 1."""
        return self.ready_or_starting / max(self.size, 1)


def queue_name(language: Language, way: str) -> str:
    """Return the name of a queue; an empty way is the language's own."""
    return f"{language.id}/{way}" if way else language.id
