"""What every request handler needs, made once by the app factory and reached through the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request

from api.access import note_caller
from api.errors import ApiError
from api.signer import Signer, origin

if TYPE_CHECKING:
    from api.access import Access
    from api.auth import Authenticator, Caller
    from api.events import Follower
    from api.languages import Languages
    from api.metrics import Metrics
    from api.places import Places
    from api.runs import Runs
    from api.storagecheck import StorageCheck
    from config.settings import Settings
    from dispatch import Dispatcher
    from records import Records
    from storage.areas import ApiAreas
    from storage.links import Links

EXTENSION = "runyard"


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the service behind the HTTP face."""

    access: Access
    metrics: Metrics
    #: What `/metrics` asks for; None when it is open.
    metrics_token: str | None
    settings: Settings
    authenticator: Authenticator
    dispatcher: Dispatcher
    languages: Languages
    runs: Runs
    records: Records
    follower: Follower
    storage: ApiAreas
    storage_check: StorageCheck
    links: Links
    #: For the threads of those who wait for a run, and of those who read what is long.
    waiters: Places
    readers: Places


def context() -> Context:
    """The parts of the application that serves this request."""
    return cast("Context", current_app.extensions[EXTENSION])


def signer() -> Signer:
    """Signs links for this request's answer, and may go on doing so when the request is over."""
    found = context()
    public = found.settings.public_base_url
    return Signer(found.links, public or origin(request.scheme, request.headers.get("Host", "")))


def require_caller(*, reading: bool) -> Caller:
    """Who calls, with a token of the right bucket spent. Raises ApiError 401 or 429."""
    try:
        caller = context().authenticator.authenticate(request.headers.get("Authorization"))
    except ApiError as e:
        context().access.refused(e.error.code, request.remote_addr)
        raise
    note_caller(request.environ, caller)
    decision = caller.spend(reading=reading)
    g.rate_headers = headers = decision.headers()
    if not decision.allowed:
        raise ApiError(
            429,
            f"This key may make {decision.limit} requests at once; try again in {headers['Retry-After']} s.",
            code="rate_limit_exceeded",
            headers={"Retry-After": headers["Retry-After"]},
        )
    return caller
