"""Hold what every request handler needs: made once by the app factory and reached through the application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request

from api.errors import ApiError
from api.http.access_log import attach_caller
from api.http.forwarded import origin
from api.http.links import next_link
from api.keys.authentication import unauthorized
from api.ratelimit.client_address import UNKNOWN, limited_as

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.functions.service import FunctionService
    from api.http.access_log import AccessLog
    from api.http.concurrency import Pools
    from api.http.metrics import ApiMetrics
    from api.keys.authentication import AdminAuthenticator, Authenticator, Caller
    from api.keys.plan_reload import PlanReloader
    from api.keys.plans import Plans
    from api.keys.session_tokens import SessionTokens
    from api.lifecycle import Lifecycle
    from api.packages.policy import PackageRules
    from api.ratelimit.bucket import Decision
    from api.ratelimit.limiter import Limiter
    from api.runs.events import RunFollower
    from api.runs.service import RunService
    from api.runs.stored_outputs import Outputs
    from api.sessions.service import SessionService
    from api.system.disk_space import DiskReserve
    from api.system.instance_lease import Lease
    from api.system.languages import Languages
    from api.system.storage_health import StorageHealth
    from api.websockets.poller import WebSocketPoller
    from config.settings import Settings
    from dispatch import Dispatcher
    from dispatch.sessions import WorkerSessions
    from records import Records
    from records.leases import Instance
    from storage.areas import ApiAreas
    from storage.links import Links

EXTENSION = "runyard"


@dataclass(slots=True)
class Context:
    """The parts of the service behind the HTTP face: what all domains share, and the services of each domain.

    A domain's `init_app` sets its services. It may use those of the domains that were mounted before it.
    """

    access: AccessLog
    metrics: ApiMetrics
    metrics_token: str | None
    settings: Settings
    limiter: Limiter
    dispatcher: Dispatcher
    records: Records
    storage: ApiAreas
    #: For the threads of those who wait for a run, bring a file, or read what is long.
    places: Pools
    lifecycle: Lifecycle
    #: The lease and the retention of this instance. None if the database is not maintained by this process.
    instance: Instance | None

    # keys
    authenticator: Authenticator = field(init=False)
    session_tokens: SessionTokens = field(init=False)
    administrator: AdminAuthenticator = field(init=False)
    #: One for each tenant of API_KEYS, in the order of the entries.
    static_keys: tuple[Caller, ...] = field(init=False)
    plans: Plans = field(init=False)
    plan_reloader: PlanReloader = field(init=False)
    # system
    languages: Languages = field(init=False)
    lease: Lease | None = field(init=False)
    storage_check: StorageHealth = field(init=False)
    room: DiskReserve = field(init=False)
    # files
    links: Links = field(init=False)
    # packages
    packages: PackageRules = field(init=False)
    # runs
    runs: RunService = field(init=False)
    follower: RunFollower = field(init=False)
    outputs: Outputs = field(init=False)
    # sessions
    sessions: SessionService = field(init=False)
    session_worker: WorkerSessions = field(init=False)
    websockets: WebSocketPoller = field(init=False)
    # functions
    functions: FunctionService = field(init=False)
    # dialects
    dialects: frozenset[str] = frozenset()
    #: Returns whether a path is served without a key, so that its body may be as large as a program.
    is_keyless: Callable[[str], bool] = field(default=lambda _path: False)
    #: Returns the key in the query of a request, by its path and query; None where a path takes none there.
    query_key: Callable[[str, str], str | None] = field(default=lambda _path, _query: None)


def context() -> Context:
    """Return the parts of the application that serves this request."""
    return cast("Context", current_app.extensions[EXTENSION])


def require_caller(*, reading: bool, disabled_too: bool = False, authorization: str | None = None) -> Caller:
    """Return the caller, after taking a token from the right bucket of its key. Raises ApiError 401, 403 or 429.

    `authorization` is what to read instead of the request's header of that name.
    """
    found, address = context(), client()
    try:
        caller = found.authenticator.authenticate(
            authorization or request.headers.get("Authorization"),
            may_ask=lambda: found.limiter.may_ask(address),
            disabled_too=disabled_too,
        )
        if caller.session is not None and caller.session != (request.view_args or {}).get("session_id"):
            raise unauthorized("This token is for the calls of one session alone.", "invalid_token")
    except ApiError as e:
        raise _refused(e, address) from e
    charge(caller, reading=reading)
    return caller


def charge(caller: Caller, *, reading: bool) -> None:
    """Take a token for this request from the right bucket of its caller. Raises ApiError 429."""
    attach_caller(request.environ, caller.id, caller.label)
    bucket = caller.reads if reading else caller.runs
    decision = context().limiter.spend(caller.id, bucket, reading=reading)
    _note(decision)
    if not decision.allowed:
        raise _too_many(f"Rate limit exceeded: this key may send {decision.limit} requests at once", decision)


def require_admin() -> None:
    """Check the token of the admin calls. Raises ApiError 401, 403 or 429."""
    try:
        context().administrator.check(request.headers.get("Authorization"))
    except ApiError as e:
        raise _refused(e, client()) from e


def limit_anonymous() -> None:
    """Take one of the requests that an address may make without a token. Raises ApiError 429."""
    decision = context().limiter.anonymous(client(), reading=True)
    if not decision.allowed:
        raise _too_many("Too many requests without a token from this address", decision)


def next_url(after: str | None) -> str | None:
    """Return the link to the page of this request's list after that id; None for None."""
    if after is None:
        return None
    base = context().settings.public_base_url or origin(request.scheme, request.headers.get("Host", ""))
    return next_link(base, request.path, request.args, after)


def client() -> str:
    """Return the address that this request is counted under."""
    return request.remote_addr or UNKNOWN


def sharer() -> str:
    """Return what a client without a key shares a pool as: its address."""
    return f"address {limited_as(client())}"


def _refused(e: ApiError, address: str) -> ApiError:
    """Return the answer to a wrong token: 401, or 429 when the address has tried too many."""
    if e.status == 403:  # of a plan that is no more, or admin calls are off
        return e
    context().access.log_auth_failure(e.error.code, request.remote_addr)
    decision = context().limiter.anonymous(address)
    if decision.allowed and e.status != 429:
        return e
    return _too_many("Too many wrong tokens from this address", decision)


def _note(decision: Decision) -> None:
    """Keep a decision for the headers of the answer."""
    g.rate_decision = decision
    g.rate_headers = decision.headers()


def _too_many(what: str, decision: Decision) -> ApiError:
    _note(decision)
    return ApiError(
        429,
        f"{what}; try again in {decision.retry_after} s.",
        code="rate_limit_exceeded",
        headers={"Retry-After": decision.retry_after},
    )
