"""Lists that are read a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class RecordPage(Generic[T]):
    """Rows in the order asked for, and whether more follow: ask again with `after` = the last one's id."""

    items: tuple[T, ...]
    has_more: bool
    #: Ask again with this id instead, where it is given: a search looks at so many rows for one page.
    resume: str | None = None

    @property
    def cursor(self) -> str | None:
        """Return the `after` of the next page; None if there is none. `items` have ids."""
        if not self.has_more:
            return None
        return self.resume or str(getattr(self.items[-1], "id", "")) if self.items or self.resume else None
