"""Deploy functions, look at them, and resolve what a call names: to a version that is ready."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ApiError
from api.functions.handlers import build_request
from api.functions.objects import document_of, function_object, source_of
from api.functions.requests import unknown_function
from api.functions.sources import PreparedCall, prepare
from api.http.access_log import audit
from api.runs.submission import RunSubmission
from config.clock import now_ms
from config.ids import new_id
from dispatch import ClientGone
from records.errors import RecordsUnavailable
from records.functions import (
    AddedVersion,
    FunctionBounds,
    FunctionsTooLarge,
    FunctionVersion,
    NewVersion,
    TooManyFunctions,
)

if TYPE_CHECKING:
    from api.files.links import ArtifactLinkSigner
    from api.functions.builds import Builds
    from api.functions.requests import FunctionRequest, Reference
    from api.functions.sources import Sources
    from api.keys.authentication import Caller
    from api.runs.execution import Execution, Wait
    from api.runs.service import RunService
    from dispatch.source import MessageSource
    from records.functions import FunctionStore

log = logging.getLogger(__name__)

#: Seconds for which a call waits for the first build of its function.
BUILD_WAIT_S = 60.0
LOOK_S = 0.02
LOOK_MOST_S = 0.5
#: Functions that are read at once.
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Deployment:
    """A version that is recorded and about to be built."""

    version: FunctionVersion
    #: True for the first version of its function.
    is_new: bool
    source: bytes


class FunctionService:
    """The functions of all keys. Safe for many threads."""

    def __init__(
        self,
        store: FunctionStore,
        runs: RunService,
        builds: Builds,
        sources: Sources,
        bounds: FunctionBounds,
    ) -> None:
        """`bounds` are those of each key."""
        self._store = store
        self._runs = runs
        self._builds = builds
        self._sources = sources
        self._bounds = bounds

    # -- deploying ---------------------------------------------------------------------------------

    def begin(self, name: str, request: FunctionRequest, caller: Caller) -> Deployment:
        """Record the next version of a function. Raises ApiError."""
        document, source = document_of(request), source_of(request)
        blob = self._sources.store(source)
        new = NewVersion(
            owner=caller.id,
            name=name,
            language=request.source.language,
            created_at_ms=now_ms(),
            document=document,
            source=source if blob is None else b"",
            build_run_id=new_id("run"),
            blob=blob,
        )
        added = self._store.add(new, self._bounds)
        if not isinstance(added, AddedVersion):
            raise _beyond_bounds(added)
        audit("function.deployed", key=caller.id, function=name, version=added.version)
        version = self._store.get(caller.id, name, added.version)
        if version is None:  # deleted in this moment
            raise unknown_function()
        return Deployment(version, added.is_new, source)

    def build(
        self,
        deployment: Deployment,
        caller: Caller,
        *,
        wait: Wait,
        signer: ArtifactLinkSigner,
        client_fd: int | None,
        source: MessageSource | None = None,
    ) -> Execution:
        """Start the build of a version. One that is refused is forgotten. Raises ApiError, ClientGone.

        `source` tells where the events come from that are waited for.
        """
        version = deployment.version
        call = prepare(version, deployment.source).call
        request = build_request(call, version.build_run_id, caller.plan)
        body = orjson.dumps({"function": version.name, "version": version.version, "build": True})
        try:
            submission = RunSubmission(request, caller, body)
            return self._runs.execute(submission, wait=wait, signer=signer, client_fd=client_fd, source=source)
        except ApiError as e:
            if e.run_id is not None:
                self.settled(version)
            else:
                self.discard(version)
            raise
        except ClientGone:  # its run is cancelled by that, and found when the version is looked at
            raise
        except BaseException:
            self.discard(version)
            raise

    def discard(self, version: FunctionVersion) -> None:
        """Forget a version that is not built, and its function if it has no other."""
        try:
            self._store.discard(version.owner, version.name, version.version)
        except RecordsUnavailable:  # found later: its build is not known
            log.warning("a version that is not built could not be forgotten")

    def settled(self, version: FunctionVersion) -> FunctionVersion:
        """Return a version as it is now."""
        return self._builds.settle(version)

    # -- functions that are there ------------------------------------------------------------------

    def get(self, owner: str, reference: Reference) -> FunctionVersion:
        """Return the version that is named: without a number the newest ready one, or else the newest.

        Raises ApiError 404.
        """
        found = self._store.get(owner, reference.name, reference.version)
        if found is None:
            raise unknown_function() if reference.version is None else self._unknown_version(owner, reference)
        return self.settled(found)

    def newest(self, owner: str, name: str) -> dict[str, Any]:
        """Return the object of a function's newest version, whether it is ready or not. Raises ApiError 404."""
        found = self._newest(owner, name)
        return function_object(found, self.source(found))

    def newest_ready(self, owner: str, name: str) -> PreparedCall:
        """Return the newest version of a function, if it is ready to be called. Raises ApiError 404 or 409."""
        return self._prepared(self._newest(owner, name))

    def exists(self, owner: str, name: str) -> bool:
        """Return whether a key has a function of that name."""
        return self._store.newest(owner, name) is not None

    def _newest(self, owner: str, name: str) -> FunctionVersion:
        found = self._store.newest(owner, name)
        if found is None:
            raise unknown_function()
        return self.settled(found)

    def all_newest(self, owner: str) -> list[dict[str, Any]]:
        """Return the objects of the newest versions of all functions of a key, without what they are made of."""
        made: list[dict[str, Any]] = []
        after, has_more = None, True
        while has_more:
            page = self._store.list(owner, limit=_PAGE, after=after)
            newest = (self._store.newest(owner, found.name) for found in page.items)
            made += (function_object(self.settled(found), None) for found in newest if found is not None)
            after, has_more = (page.items[-1].name if page.items else None), page.has_more
        return made

    def built(self, deployment: Deployment) -> dict[str, Any]:
        """Return the object of a version that was deployed just now, with its log."""
        return function_object(self.settled(deployment.version), deployment.source)

    def source(self, version: FunctionVersion) -> bytes:
        """Return the code and files of a version, as they came."""
        return self._sources.read(version)

    def delete(self, owner: str, name: str) -> None:
        """Forget a function with all its versions. Raises ApiError 404."""
        if not self._store.delete(owner, name):
            raise unknown_function()
        audit("function.deleted", key=owner, function=name)

    def ready(self, owner: str, reference: Reference) -> PreparedCall:
        """Return the version that a call names, ready to be called; waits for the end of its build.

        Raises ApiError 404 or 409.
        """
        found = self.get(owner, reference)
        if found.state == "building":
            found = self._built(owner, replace(reference, version=found.version))
        return self._prepared(found)

    def _prepared(self, found: FunctionVersion) -> PreparedCall:
        """Return a version ready to be called. Raises ApiError 409 for one that is not built."""
        if found.state != "ready":
            problem = (
                "is still being built" if found.state == "building" else "could not be built; its log says why"
            )
            message = f"name: version {found.version} of {found.name} {problem}"
            raise ApiError(409, message, code="function_failed", param="name")
        return self._sources.prepared(found)

    def _built(self, owner: str, reference: Reference) -> FunctionVersion:
        """Wait for the end of a build, for a while, and return the version."""
        until = time.monotonic() + BUILD_WAIT_S
        pause_s = LOOK_S
        while (found := self.get(owner, reference)).state == "building" and time.monotonic() < until:
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_MOST_S)
        return found

    def _unknown_version(self, owner: str, reference: Reference) -> ApiError:
        newest = self._store.get(owner, reference.name)
        if newest is None:
            return unknown_function()
        message = f"version: {reference.name} has no version {reference.version}, or has it no more"
        return ApiError(404, message, code="function_not_found", param="version")


def _beyond_bounds(found: TooManyFunctions | FunctionsTooLarge) -> ApiError:
    if isinstance(found, TooManyFunctions):
        message = f"name: this key may have {found.limit} functions; delete one, or use one of its names again"
        return ApiError(409, message, code="too_many_functions", param="name")
    message = f"The functions of this key take {found.used_bytes} of {found.limit_bytes} bytes: delete some."
    return ApiError(413, message, code="storage_quota_exceeded")
