"""Owners of the rows of static keys: a label is a tenant, independent of its token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from records.errors import RecordsError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class StaticTenant:
    """A label, the owner of its rows if it is new, and the owners that its tokens had without a label."""

    label: str
    owner: str
    former: tuple[str, ...]


class TenantsWouldMerge(RecordsError):
    """A label stands for owners that each have rows. `entries` are the indexes of those among `former`."""

    def __init__(self, label: str, entries: tuple[int, ...]) -> None:
        super().__init__("tenants that have runs would be merged")
        self.label = label
        self.entries = entries


class TenantStore(Protocol):
    """Maps each label to the owner of its rows. Raises RecordsUnavailable."""

    def assign(self, tenants: Sequence[StaticTenant]) -> dict[str, str]:
        """Return the owner of each label, and record it for labels that are new.

        A new label takes over the one former owner that has rows and belongs to no other label. All labels are
        one transaction. Raises TenantsWouldMerge, and changes nothing then.
        """
        ...

    def owners(self) -> frozenset[str]:
        """Return the owners of all labels that were ever recorded."""
        ...
