"""The languages that the worker reports, and a cache of them.

A language that was ready may be used from memory for a while: the worker checks every job itself. A miss
(unknown, or known and not ready) is asked again, so that a language just built is seen at once.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from api.errors import ApiError
from config.nearest import nearest, plain
from dispatch import Dispatcher, WorkerUnavailable
from protocol.limits import DEFAULT_PIDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: The greatest age of an answer that is shown to a client.
SHOWN_AGE_S = 1.0
#: The greatest age of a cached ready language.
READY_AGE_S = 30.0
#: The greatest age of a cached negative answer.
MISS_AGE_S = 0.25
NOT_READY_RETRY_S = 5
UNAVAILABLE_RETRY_S = 2

#: A version behind a language's name: `python2`, `node20`, `php8.3`.
_DIGITS = "0123456789"
#: Other names of the languages that the service may have.
_SYNONYMS = {
    "cpython": "python", "ipython": "python", "jupyter": "python", "nodejavascript": "node", "ecmascript": "node",
    "mjs": "node", "cjs": "node", "jsx": "node", "tsx": "typescript", "zsh": "bash", "ksh": "bash", "dash": "bash",
    "shellscript": "bash", "cargo": "rust",
}  # fmt: skip
_PUBLIC = (
    "id", "aliases", "version", "entry_file", "packages", "ready", "example", "keeps", "kernels", "results",
    "package_ecosystem",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OfferedLanguage:
    """The facts of a language that the API needs; `public` is its row of `GET /v1/languages`."""

    id: str
    entry_file: str
    ready: bool
    pids_default: int
    public: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OfferedLanguages:
    """The languages at one moment, by id and by alias."""

    languages: tuple[OfferedLanguage, ...]
    by_name: dict[str, OfferedLanguage]
    taken_at: float
    #: False when the worker measured a sandbox that was not confined as it must be.
    confined: bool = True
    #: Each required layer of confinement, and whether it was measured as active.
    posture: dict[str, bool] = field(default_factory=dict)
    #: True if a sandbox has started and further ones can be created.
    sandboxes: bool = True
    #: Languages whose sandboxes cannot be made.
    failing: tuple[str, ...] = ()
    #: The values of a run's `isolation` that the worker takes.
    isolations: frozenset[str] = frozenset()


class Languages:
    """The worker's languages, remembered. Safe for many threads; one of them asks at a time."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._lock = Lock()
        self._catalogue = OfferedLanguages((), {}, float("-inf"))
        self._failed_at = float("-inf")

    def catalogue(self, max_age_s: float = SHOWN_AGE_S) -> OfferedLanguages:
        """Return the languages, at most `max_age_s` old. Raises WorkerUnavailable."""
        if self._age_s() > max_age_s:
            with self._lock:
                if self._age_s() > max_age_s:
                    self._ask()
        return self._catalogue

    def offered(self, max_age_s: float = SHOWN_AGE_S) -> OfferedLanguages:
        """Return the languages, at most `max_age_s` old. Raises ApiError 503."""
        try:
            return self.catalogue(max_age_s)
        except WorkerUnavailable as e:
            raise worker_unavailable() from e

    def find(self, name: str) -> OfferedLanguage:
        """Return a ready language by id or alias. Raises ApiError 400 or 503."""
        language = self._catalogue.by_name.get(name)
        if language is None or not language.ready or self._age_s() > READY_AGE_S:
            try:
                language = self.catalogue(MISS_AGE_S).by_name.get(name)
            except WorkerUnavailable as e:
                raise worker_unavailable() from e
        if language is None:
            raise self._unknown(name)
        if not language.ready:
            raise ApiError(
                503,
                f"language: {language.id} is not ready yet",
                code="language_not_ready",
                param="language",
                retry_after_s=NOT_READY_RETRY_S,
            )
        return language

    def forget(self) -> None:
        """Discard the cached languages, because the worker has gone away."""
        with self._lock:  # what is being asked now may have been answered before
            self._catalogue = replace(self._catalogue, taken_at=float("-inf"))

    def name_of(self, name: str) -> str:
        """Return the id of a language, ready or not, by id or alias. Raises ApiError 400 or 503."""
        try:
            language = self.catalogue().by_name.get(name)
        except WorkerUnavailable as e:
            raise worker_unavailable() from e
        if language is None:
            raise self._unknown(name)
        return language.id

    def known_name_of(self, name: str) -> str:
        """Return the id of a language by id or alias; the name itself where the worker does not offer it now."""
        with suppress(WorkerUnavailable):
            self.catalogue()
        language = self._catalogue.by_name.get(name)
        return name if language is None else language.id

    def _unknown(self, name: str) -> ApiError:
        by_name = self._catalogue.by_name
        near = nearest_language(name, by_name)
        mean = f"; did you mean {by_name[near].id}?" if near is not None else ";"
        known = ", ".join(sorted(item.id for item in self._catalogue.languages)) or "none"
        message = f"language: unknown{mean} supported: {known}"
        return ApiError(400, message, code="unknown_language", param="language")

    def _ask(self) -> None:
        # Those who waited for the one that asked in vain must not each wait for a timeout of their own.
        if self._clock() - self._failed_at < MISS_AGE_S:
            raise WorkerUnavailable("the worker did not answer a moment ago")
        try:
            self._catalogue = _read(self._dispatcher.status(), self._clock())
        except WorkerUnavailable:
            self._failed_at = self._clock()
            raise

    def _age_s(self) -> float:
        return self._clock() - self._catalogue.taken_at


def nearest_language(name: str, known: Collection[str]) -> str | None:
    """Return the id or alias that is probably meant, in any case, version or spelling; None if none is near.

    The beginning of a name is not near: Java is not JavaScript.
    """
    text = plain(name)
    word = text.rstrip(_DIGITS)
    return nearest(_SYNONYMS.get(word, word), known) or nearest(text, known)


def worker_unavailable() -> ApiError:
    """Return the error for a request that no worker answers: nothing was started."""
    return ApiError(
        503,
        "The worker cannot be reached; nothing was started.",
        code="worker_unavailable",
        retry_after_s=UNAVAILABLE_RETRY_S,
    )


def _read(status: dict[str, Any], now: float) -> OfferedLanguages:
    try:
        languages = tuple(_language(item) for item in status["languages"])
        posture = {str(name): state == "ok" for name, state in status.get("posture", {}).items()}
        sandboxes = status.get("sandboxes", {})
        failing = tuple(str(name) for name in sandboxes.get("failing", ()))
        isolations = frozenset(str(name) for name in status.get("isolations", ()))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise WorkerUnavailable("the worker's languages are not readable") from e
    by_name = {alias: item for item in languages for alias in item.public["aliases"]}
    by_name.update({item.id: item for item in languages})
    return OfferedLanguages(
        languages,
        by_name,
        now,
        confined=status.get("confined") is not False,
        posture=posture,
        sandboxes=sandboxes.get("usable") is not False,
        failing=failing,
        isolations=isolations,
    )


def _language(item: dict[str, Any]) -> OfferedLanguage:
    public = {name: item.get(name) for name in _PUBLIC}
    public["aliases"] = [str(alias) for alias in item["aliases"]]
    return OfferedLanguage(
        id=str(item["id"]),
        entry_file=str(item["entry_file"]),
        ready=bool(item["ready"]),
        pids_default=int(item.get("pids_default") or DEFAULT_PIDS),
        public=public,
    )
