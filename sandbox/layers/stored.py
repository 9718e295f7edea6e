"""The packed layers in the store, by name: whose they are, when they were used, and which are removed first.

A name has the hash of image and request, whether every key may use the layer, and the hash of the key that it is
charged to: `ab12…/shared-cd34…`, `ab12…/own-cd34…`. An empty object `….used` beside it was written when a worker
last used it. All workers with this bucket put, find and remove: each call is complete in itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sandbox.layers.facts import LayerFacts
from sandbox.layers.packed import FORMAT
from sandbox.layers.store import KEY_SHARE

USED = ".used"
_OWNER_CHARACTERS = 32
NAME = re.compile(r"[0-9a-f]{64}/(?:own|shared)-(?P<owner>[0-9a-f]{32})")


class StoredObject(Protocol):
    """An object in the store, its size in bytes, and the seconds since it was written."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def age_s(self) -> float: ...


class ObjectStore(Protocol):
    """Objects by name. All methods raise StorageUnavailable."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write an object whole."""

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Yield its bytes. Raises BlobMissing, too."""

    def listed(self, prefix: str = "", most: int | None = None) -> Iterable[StoredObject]:
        """Return those whose names begin so."""

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""

    def clean(self) -> int:
        """Remove what killed writers left; the number removed."""


@dataclass(slots=True)
class StoredLayer:
    """A layer in the store; `idle_s` are the seconds since it was written or used."""

    name: str
    owner: str
    size: int
    idle_s: float


class StoredLayers:
    """The layers in the store as they were listed. The methods raise StorageUnavailable."""

    def __init__(self, objects: ObjectStore, max_bytes: int, spared_s: float) -> None:
        """List them. One that was used in the last `spared_s` seconds is never removed."""
        self._objects = objects
        self._max_bytes = max_bytes
        self._spared_s = spared_s
        self._found: dict[str, StoredLayer] = {}
        uses: dict[str, float] = {}
        for one in objects.listed():
            matched = NAME.fullmatch(one.name.removesuffix(USED))
            if matched is None:
                continue
            if one.name.endswith(USED):
                uses[matched[0]] = one.age_s
            else:
                self._found[matched[0]] = StoredLayer(one.name, matched["owner"], one.size, one.age_s)
        for name, idle_s in uses.items():
            if name in self._found:
                self._found[name].idle_s = min(self._found[name].idle_s, idle_s)
            elif idle_s > spared_s:
                objects.delete(name + USED)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def note_use(self, name: str) -> None:
        """Note that a layer in the store is used on this machine."""
        self._objects.put(name + USED, ())
        self._found[name].idle_s = 0.0

    def has_room(self, name: str, owner: str, size: int) -> bool:
        """Remove what is in the way of a layer that is to be written. Returns whether it may be."""
        self._found.pop(name, None)  # it is replaced
        for bound, whose in ((self._max_bytes // KEY_SHARE, owner), (self._max_bytes, None)):
            self._shrink(bound - size, whose)
            if self._size(whose) + size > bound:
                return False
        return True

    def collect(self) -> int:
        """Remove the least recently used until every bound is kept, or the rest is spared; the number removed."""
        owners = sorted({one.owner for one in self._found.values()})
        removed = sum(self._shrink(self._max_bytes // KEY_SHARE, owner) for owner in owners)
        return removed + self._shrink(self._max_bytes, None)

    def _shrink(self, bound: int, owner: str | None) -> int:
        removed = 0
        for one in sorted(self._found.values(), key=lambda one: -one.idle_s):
            if self._size(owner) <= bound or one.idle_s < self._spared_s:
                break
            if owner in (None, one.owner):
                self._objects.delete(one.name)
                self._objects.delete(one.name + USED)
                del self._found[one.name]
                removed += 1
        return removed

    def _size(self, owner: str | None) -> int:
        return sum(one.size for one in self._found.values() if owner in (None, one.owner))


def object_name(facts: LayerFacts) -> str:
    """Return the name of a layer's object: that which it was fetched from, or which it is to have."""
    scope = "shared" if facts.is_shared else "own"
    return facts.stored_as or f"{request_hash(facts.image, facts.request)}/{scope}-{owner_hash(facts.key)}"


def request_hash(image: str, request: tuple[str, ...]) -> str:
    """Return the first part of the names of all layers that answer a request."""
    # With the form: a worker of another version neither reads nor removes what it does not know.
    return hashlib.sha256("\0".join((str(FORMAT), image, *request)).encode()).hexdigest()


def owner_hash(key: str) -> str:
    """Return the last part of the names of all layers that are charged to a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:_OWNER_CHARACTERS]
