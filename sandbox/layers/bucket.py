"""The layers in S3, where another worker finds them, or this one when its disk was emptied.

An object is a packed layer (`packed`); `stored` has their names. A layer is sent after its build, by one thread.
Nothing here fails a run: if the store or an object cannot be used, the layer is built from its registry; so is
one that is removed while another worker fetches it.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protocol.limits import MIB
from sandbox.frames import ProtocolError
from sandbox.layers.facts import LayerFacts, LockedPackage
from sandbox.layers.packed import PackedHead, PackedReader, pack_layer
from sandbox.layers.store import FILES
from sandbox.layers.stored import NAME, StoredLayers, object_name, owner_hash, request_hash
from sandbox.layers.writer import LayerTooLarge, LayerWriter
from storage.errors import BlobMissing, StorageError, StorageUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.layers.builds import BuildName
    from sandbox.layers.store import LayerStore
    from sandbox.layers.stored import ObjectStore
    from sandbox.layers.writer import WrittenLayer

log = logging.getLogger(__name__)

#: Seconds without an attempt after a failure of the store: each attempt may take long.
REST_S = 60.0
#: The most that fetching a layer may take; it may take half of the time that is left, too.
FETCH_S = 60.0
#: The most layers that wait to be sent. More are sent by the next clean-up after their use.
MOST_WAITING = 32
#: Objects of one request's shared layers that are looked at: several keys may have built it at the same time.
MOST_SHARED = 20
#: A layer that was used this recently is not removed from the bucket: every worker reports its uses more often.
LEAST_SPARED_S = 900.0


@dataclass(frozen=True, slots=True)
class _Claim:
    """A request, and the name of the object that may answer it; `now` is in seconds since 1970."""

    name: str
    wanted: BuildName
    language: str
    places: tuple[bytes, ...]
    is_pinned: bool
    now: float

    def facts(self, head: PackedHead) -> LayerFacts:
        """Return the facts of the layer with this head, charged to the key that has it fetched.

        Raises ProtocolError if it is another layer than the name says.
        """
        wanted = self.wanted
        is_shared = "/shared-" in self.name
        if (head.image, head.request, head.is_shared) != (wanted.image, wanted.request, is_shared):
            raise ProtocolError("a packed layer is another one than its name says")
        return LayerFacts(
            id=head.id,
            key=wanted.key,
            language=self.language,
            image=head.image,
            request=head.request,
            packages=head.packages,
            size=0,
            sha256=head.sha256,
            is_pinned=self.is_pinned,
            is_shared=is_shared,
            created_at=min(head.created_at, self.now),
            users=(wanted.key,),
            stored_as=self.name,
        )


class LayerBucket:
    """The layers in the bucket. Safe for threads."""

    def __init__(
        self,
        objects: ObjectStore,
        store: LayerStore,
        *,
        max_mb: int,
        interval_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`interval_s` is the time between two calls of `collect`."""
        self._objects = objects
        self._store = store
        self._max_bytes = max_mb * MIB
        self._interval_s = interval_s
        self._spared_s = max(LEAST_SPARED_S, 3 * interval_s)
        self._clock = clock
        self._waiting: queue.Queue[LayerFacts] = queue.Queue(MOST_WAITING)
        self._rests_until = 0.0

    def start(self) -> None:
        """Send layers that are offered, until the process ends."""
        threading.Thread(target=self._send_all, name="send-layers", daemon=True).start()

    def fetch(
        self,
        wanted: BuildName,
        language: str,
        place: Path,
        *,
        places: tuple[bytes, ...],
        locked: tuple[LockedPackage, ...],
        is_pinned: bool,
        deadline: float,
    ) -> LayerFacts | None:
        """Unpack the layer that answers a request to the directory `files` in `place`. Returns None without one.

        `locked` are the packages that the request was resolved to on this machine: the layer must have the same.
        """
        now = time.monotonic()
        if now < self._rests_until:
            return None
        until = now + min(FETCH_S, (deadline - now) / 2)

        def answers(facts: LayerFacts) -> bool:
            return facts.is_fresh(self._clock()) and (not locked or set(locked) == set(facts.packages))

        try:
            for name in self._candidates(wanted):
                claim = _Claim(name, wanted, language, places, is_pinned, self._clock())
                facts = self._unpacked(claim, place, answers, until)
                if facts is not None:
                    log.info("a layer was fetched", extra={"layer": facts.id, "language": language})
                    return facts
        except StorageUnavailable as e:
            self._rests_until = time.monotonic() + REST_S
            log.warning("no layer can be fetched: %s", e, extra={"cause": repr(e.__cause__)})
        except OSError as e:
            log.warning("a layer cannot be fetched: %s", e)
        return None

    def offer(self, facts: LayerFacts) -> None:
        """Have a layer sent to the bucket, soon."""
        try:
            self._waiting.put_nowait(facts)
        except queue.Full:
            log.info("a layer waits for the next clean-up to be stored", extra={"layer": facts.id})

    def collect(self) -> int:
        """Report the layers that were used here, and remove the least recently used beyond the bounds.

        Returns the number removed. Raises StorageUnavailable.
        """
        self._objects.clean()
        stored = self._stored()
        for facts in self._store.used_since(self._clock() - 2 * self._interval_s):
            name = object_name(facts)
            if name in stored:
                stored.note_use(name)
            elif facts.is_fresh(self._clock()):
                self.offer(facts)
        return stored.collect()

    def _stored(self) -> StoredLayers:
        return StoredLayers(self._objects, self._max_bytes, self._spared_s)

    def _candidates(self, wanted: BuildName) -> Iterator[str]:
        asked = request_hash(wanted.image, wanted.request)
        yield f"{asked}/own-{owner_hash(wanted.key)}"
        shared = [one for one in self._objects.listed(f"{asked}/shared-", MOST_SHARED) if NAME.fullmatch(one.name)]
        yield from (one.name for one in sorted(shared, key=lambda one: one.age_s))

    def _unpacked(
        self, claim: _Claim, place: Path, answers: Callable[[LayerFacts], bool], until: float
    ) -> LayerFacts | None:
        """Unpack an object. Returns None if it is missing, damaged, or does not answer the request."""
        try:
            with self._objects.open(claim.name) as pieces:
                reader = PackedReader(_in_time(pieces, until))
                facts = claim.facts(reader.head())
                if not answers(facts):
                    return None
                with LayerWriter(place / f"{FILES}.new") as writer:
                    reader.entries(writer, claim.places)
                    written = writer.keep(place / FILES)
            _check_hash(written, facts, place / FILES)
        except BlobMissing:
            return None
        except (ProtocolError, LayerTooLarge) as e:
            log.warning("a stored layer is damaged, and is removed: %s", e, extra={"object": claim.name})
            self._objects.delete(claim.name)
            return None
        return replace(facts, size=written.size)

    def _send_all(self) -> None:
        while True:
            facts = self._waiting.get()
            try:
                self._send(facts)
            except (OSError, StorageError) as e:
                log.warning("a layer cannot be stored: %s", e, extra={"layer": facts.id})

    def _send(self, facts: LayerFacts) -> None:
        """Store a layer, held meanwhile, unless there is no room that others do not use."""
        with self._store.hold(facts.id, facts.key) as held:
            if held is None:
                return
            name = object_name(facts)
            if not self._stored().has_room(name, owner_hash(facts.key), facts.size):
                log.info("a layer is not stored: there is no room", extra={"layer": facts.id})
                return
            self._objects.put(name, pack_layer(PackedHead.of(facts), held.files))


def _in_time(pieces: Iterator[bytes], until: float) -> Iterator[bytes]:
    for piece in pieces:
        if time.monotonic() > until:
            raise StorageUnavailable("storage is too slow for a layer")
        yield piece


def _check_hash(written: WrittenLayer, facts: LayerFacts, files: Path) -> None:
    if written.sha256 != facts.sha256:
        shutil.rmtree(files)
        raise ProtocolError("a packed layer has another hash than it says")
