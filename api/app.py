"""The HTTP face: a Flask application made by a factory, with nothing done at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flask import Flask, Response, g, request

from api import errors
from api.context import EXTENSION, Context
from api.dialects import mount as dialects
from api.files import mount as files
from api.functions import mount as functions
from api.http.access_log import ENVIRON_KEY, AccessLog
from api.http.concurrency import Pools
from api.http.forwarded import TrustedProxies
from api.http.ids import request_id
from api.http.metrics import ApiMetrics
from api.keys import mount as keys
from api.lifecycle import Lifecycle
from api.packages import mount as packages
from api.ratelimit.bucket import Bucket
from api.ratelimit.limiter import Limiter
from api.runs import mount as runs
from api.sessions import mount as sessions
from api.system import mount as system
from api.system.instance_lease import this_instance
from config.settings import Settings, load_settings
from config.tracing import open_tracer
from dispatch.unix import UnixDispatcher
from records import Records, migrate, open_records
from storage.areas import for_api

if TYPE_CHECKING:
    from flask import Blueprint

    from dispatch import Dispatcher
    from storage.areas import ApiAreas


class Domain(Protocol):
    """A part of the API that mounts itself."""

    #: Its routes, each with its `@operation`: the specification is made of them.
    BLUEPRINTS: tuple[Blueprint, ...]

    def init_app(self, app: Flask, deps: Context) -> None:
        """Register the blueprints, build the services and add their start/stop pairs."""


#: In the order in which they are mounted and started: each may use the services of those before it.
DOMAINS: tuple[Domain, ...] = (system, keys, files, packages, runs, sessions, functions, dialects)


def routes_alone() -> Flask:
    """Return an application that has every route and nothing behind them: for the specification."""
    app = Flask("runyard", static_folder=None, template_folder=None)
    for domain in DOMAINS:
        for blueprint in domain.BLUEPRINTS:
            app.register_blueprint(blueprint)
    return app


def create_app(
    settings: Settings | None = None,
    dispatcher: Dispatcher | None = None,
    records: Records | None = None,
    storage: ApiAreas | None = None,
) -> Flask:
    """Return the application over a worker, a database and a store, started; `Lifecycle.stop` stops it.

    Dependencies that are not given are created from the settings.
    """
    settings = settings or load_settings()
    app = Flask("runyard", static_folder=None, template_folder=None)
    # A doubled slash is another path, not a redirect with a page of HTML.
    app.url_map.merge_slashes = False
    deps = _context(settings, dispatcher, records, storage)
    app.extensions[EXTENSION] = deps
    if trusted := settings.trusted():
        app.wsgi_app = TrustedProxies(app.wsgi_app, trusted)  # type: ignore[method-assign]  # as Flask documents it
    app.before_request(lambda: deps.access.begin(request))
    errors.init_app(app)
    for domain in DOMAINS:
        domain.init_app(app, deps)
    app.after_request(_add_headers)
    deps.lifecycle.start()
    return app


def _context(
    settings: Settings, dispatcher: Dispatcher | None, records: Records | None, storage: ApiAreas | None
) -> Context:
    """Return what all domains share."""
    storage = storage or for_api(settings)
    instance = None
    if records is None:
        migrate(settings.database)
        instance = this_instance(settings.api_home, settings)
        records = open_records(
            settings.database,
            connections=settings.database_connections,
            instance=instance.id,
            lease_ms=settings.lease_ms,
        )
    metrics = ApiMetrics()
    tracer = open_tracer("api", settings.otel_exporter_otlp_endpoint)
    lifecycle = Lifecycle()
    if tracer is not None:
        lifecycle.add("tracer", lambda: None, tracer.stop)
    return Context(
        access=AccessLog(metrics, log=settings.access_log, tracer=tracer),
        metrics=metrics,
        metrics_token=settings.metrics_token,
        settings=settings,
        limiter=Limiter(
            url=settings.ratelimit_url,
            anonymous=Bucket(settings.address_rps, settings.address_burst),
            keys_an_hour=settings.keys_per_hour,
        ),
        dispatcher=dispatcher or _dispatcher(settings, lifecycle),
        records=records,
        storage=storage,
        places=Pools.of(settings),
        lifecycle=lifecycle,
        instance=instance,
    )


def _dispatcher(settings: Settings, lifecycle: Lifecycle) -> Dispatcher:
    """Return how this process reaches workers: the one of this host, or those at the broker."""
    times = {"queue_wait_s": settings.queue_wait_s, "packages_timeout_s": settings.packages_timeout_s}
    if settings.amqp_url is None:
        return UnixDispatcher(settings.worker_socket, **times)
    from dispatch.amqp import AmqpDispatcher  # with its library, which one host does without
    from transport.access import broker_access

    access = broker_access(settings)
    assert access is not None
    made = AmqpDispatcher(access, settings.amqp_queue, **times)
    lifecycle.add("broker", made.start, made.close)
    return made


def _add_headers(response: Response) -> Response:
    headers = response.headers
    facts = request.environ.get(ENVIRON_KEY)
    headers["x-request-id"] = facts.request_id if facts else request_id(request.headers.get("x-request-id"))
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    for name, value in g.get("rate_headers", {}).items():
        headers[name] = value
    return response
