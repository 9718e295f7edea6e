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
