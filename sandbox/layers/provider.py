"""Provide the layer of a request: found, or built, and held while it is used."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from config.ids import new_id
from protocol.packages import ECOSYSTEMS, MAX_BOUNDED_BYTES, Ecosystem, PackagesFailed, parse_requests
from sandbox.engines import EngineError
from sandbox.layers.build import BuildOrder
from sandbox.layers.builds import BuildName, BuildTooLate
from sandbox.layers.facts import LayerFacts
from sandbox.layers.places import PLACES
from sandbox.layers.store import FILES, LayersFull
from sandbox.run.package_layers import ReadyLayer

if TYPE_CHECKING:
    from sandbox.images import Images
    from sandbox.languages import Catalogue, Language
    from sandbox.layers.bucket import LayerBucket
    from sandbox.layers.builder import LayerBuilder
    from sandbox.layers.builds import LayerBuilds
    from sandbox.layers.resolutions import Resolutions
    from sandbox.layers.store import LayerStore

log = logging.getLogger(__name__)

#: The language in whose image the packages of an ecosystem are built: it has the tool.
BUILDERS: dict[Ecosystem, str] = {"pip": "python", "npm": "node", "go": "go", "cargo": "rust"}
#: A layer may be removed between its look-up and its use, by another process: so often it is looked up again.
TRIES = 3


class LayerProvider:
    """Provides layers to runs and sessions; each call is on the thread of its run."""

    def __init__(
        self,
        catalogue: Catalogue,
        images: Images,
        store: LayerStore,
        builds: LayerBuilds,
        builder: LayerBuilder,
        resolutions: Resolutions,
        bucket: LayerBucket | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`bucket` has the layers of other workers, too; None without S3."""
        self._catalogue = catalogue
        self._images = images
        self._store = store
        self._builds = builds
        self._builder = builder
        self._resolutions = resolutions
        self._bucket = bucket
        self._clock = clock

    @contextmanager
    def ready(
        self,
        *,
        key: str,
        language: str,
        packages: tuple[str, ...],
        on_output: Callable[[str], None],
        patience_s: float,
    ) -> Iterator[ReadyLayer]:
        """Provide the layer with these packages, and keep it from removal. Raises PackagesFailed, EngineError.

        `on_output` gets the lines of the tool if it is built now, within `patience_s`.
        """
        deadline = time.monotonic() + patience_s
        image = self._images.get(language)
        builder = BUILDERS[ECOSYSTEMS[language]]
        known = self._catalogue.get(builder)
        if image is None:
            raise EngineError(f"there is no image of {language}")
        if known is None or self._images.get(builder) is None:
            message = f"packages of {language} are built in the image of {builder}, which is not here"
            raise PackagesFailed("package_build_failed", message)
        for _ in range(TRIES):
            facts = self._store.find(key, image.digest, packages)
            if facts is None or not facts.is_fresh(self._clock()):
                name = BuildName(key, image.digest, packages)
                facts = self._built(known, language, name, on_output, deadline)
            with self._store.hold(facts.id, key) as held:
                if held is not None:
                    yield ReadyLayer(facts.id, held.files, facts.packages, held.lock)
                    return
        raise EngineError("a layer is removed as often as it is made")

    @contextmanager
    def at_hand(self, *, key: str, language: str, packages: tuple[str, ...]) -> Iterator[ReadyLayer | None]:
        """Keep the layer with these packages from removal if it is on the disk; None if it is to be made.

        The reasons why it cannot be made are `ready`'s to tell.
        """
        image = self._images.get(language)
        facts = None if image is None else self._store.find(key, image.digest, packages)
        if facts is None or not facts.is_fresh(self._clock()):
            yield None
            return
        with self._store.hold(facts.id, key) as held:
            yield None if held is None else ReadyLayer(facts.id, held.files, facts.packages, held.lock)

    def known_to(self, key: str, layer_id: str) -> LayerFacts | None:
        """Return the facts of a layer that the key has used."""
        return self._store.known_to(key, layer_id)

    def _built(
        self,
        builder: Language,
        language: str,
        name: BuildName,
        on_output: Callable[[str], None],
        deadline: float,
    ) -> LayerFacts:
        try:
            return self._builds.build(
                name,
                lambda tell: self._build(builder, language, name, tell, deadline),
                on_output,
                max(0.0, deadline - time.monotonic()),
            )
        except BuildTooLate as e:
            raise PackagesFailed("package_build_failed", f"{e} (PACKAGES_TIMEOUT_S)") from e
        except LayersFull as e:
            raise PackagesFailed("package_build_failed", str(e)) from e

    def _build(
        self, builder: Language, language: str, name: BuildName, tell: Callable[[str], None], deadline: float
    ) -> LayerFacts:
        there = self._store.find(name.key, name.image, name.request)
        if there is not None and there.is_fresh(self._clock()):
            return there  # made for another key while this one waited for its turn
        ecosystem = ECOSYSTEMS[language]
        requests = parse_requests(ecosystem, name.request, most_bytes=MAX_BOUNDED_BYTES)
        is_pinned = all(request.version is not None for request in requests)
        locked = self._resolutions.find(name.key, name.image, name.request, is_pinned=is_pinned)
        order = BuildOrder(new_id("lay"), name.key, builder, ecosystem, name.request, locked)
        found = self._fetched(order, language, name, deadline, is_pinned=is_pinned)
        if found is None:
            found = self._made(order, language, name, tell, deadline, is_pinned=is_pinned)
            if self._bucket is not None:
                self._bucket.offer(found)
        self._resolutions.keep(name.key, name.image, name.request, found.packages, found.created_at)
        return found

    def _fetched(
        self, order: BuildOrder, language: str, name: BuildName, deadline: float, *, is_pinned: bool
    ) -> LayerFacts | None:
        """Return the layer as another worker, or this one earlier, has stored it; None if it is to be built."""
        if self._bucket is None:
            return None
        place = self._store.make_place(order.layer_id)
        try:
            found = self._bucket.fetch(
                name,
                language,
                place,
                places=PLACES[order.ecosystem],
                locked=order.locked,
                is_pinned=is_pinned,
                deadline=deadline,
            )
            if found is not None:
                self._store.add(found, place)
        except FileExistsError:
            # Fetched for another key at the same time: a shared layer has one id.
            self._store.drop_place(place)
            found = self._store.find(name.key, name.image, name.request)
            return found if found is not None and found.is_fresh(self._clock()) else None
        except BaseException:
            self._store.drop_place(place)
            raise
        if found is None:
            self._store.drop_place(place)
        return found

    def _made(
        self,
        order: BuildOrder,
        language: str,
        name: BuildName,
        tell: Callable[[str], None],
        deadline: float,
        *,
        is_pinned: bool,
    ) -> LayerFacts:
        place = self._store.make_place(order.layer_id)
        began = time.monotonic()
        try:
            built = self._builder.build(order, place / FILES, tell, deadline)
            facts = LayerFacts(
                id=order.layer_id,
                key=name.key,
                language=language,
                image=name.image,
                request=name.request,
                packages=built.packages,
                size=built.written.size,
                sha256=built.written.sha256,
                is_pinned=is_pinned,
                is_shared=built.is_pure,
                created_at=self._clock(),
                users=(name.key,),
            )
            self._store.add(facts, place)
        except BaseException:
            self._store.drop_place(place)
            raise
        seconds = round(time.monotonic() - began, 3)
        log.info("a layer was built", extra={"layer": facts.id, "language": language, "seconds": seconds})
        return facts
