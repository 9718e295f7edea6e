"""The facts of a layer that are kept beside its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

#: The age at which the answer to an unpinned request is resolved again.
RESOLVED_AGAIN_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """A package as it was resolved; `sha256` is that of the file from the registry."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """A layer: its request, the packages that answer it, and the keys that may know it.

    `key` built it and is charged for it. `is_shared` is true only if every file's hash is the registry's own and
    nothing of a package was executed. `users` are the keys that have used it. Times are seconds since 1970.
    `stored_as` is the name of the object in S3 that it was fetched from; empty if it was built here.
    """

    id: str
    key: str
    language: str
    image: str
    request: tuple[str, ...]
    packages: tuple[LockedPackage, ...]
    size: int
    sha256: str
    is_pinned: bool
    is_shared: bool
    created_at: float
    users: tuple[str, ...]
    stored_as: str = ""

    def answers(self, key: str, image: str, request: tuple[str, ...]) -> bool:
        """Tell whether it is what the key asks for, and may be used by the key."""
        return (self.image, self.request) == (image, request) and (self.is_shared or self.key == key)

    def is_fresh(self, now: float) -> bool:
        """Tell whether it can be used without resolving its request again."""
        return self.is_pinned or now - self.created_at < RESOLVED_AGAIN_S

    def used_by(self, key: str) -> LayerFacts:
        """Return the facts with that key among its users."""
        return self if key in self.users else replace(self, users=(*self.users, key))

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LayerFacts:
        """Return the facts in a text that the worker wrote. Raises ValueError, TypeError or KeyError."""
        found: dict[str, Any] = json.loads(text)
        found["packages"] = tuple(LockedPackage(**package) for package in found["packages"])
        found["request"] = tuple(found["request"])
        found["users"] = tuple(found["users"])
        return cls(**found)
