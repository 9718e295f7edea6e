"""The HTTP face: a Flask application made by a factory, with nothing done at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, g, request

from api import errors
from api.context import EXTENSION, Context
from api.files import routes as files_routes
from api.files.blob_gc import FileKeeper
from api.http.access_log import ENVIRON_KEY, Access
from api.http.concurrency import Pools
from api.http.ids import request_id
from api.http.metrics import Metrics
from api.keys import admin_routes as admin_keys_routes
from api.keys import routes as keys_routes
from api.keys import usage_routes
from api.keys.authentication import Administrator, Authenticator
from api.keys.plans import Plans, load_plans
from api.ratelimit.bucket import Bucket
from api.ratelimit.client_address import client_address
from api.ratelimit.limiter import Limiter
from api.runs import routes as runs_routes
from api.runs.events import Follower
from api.runs.service import Runs
from api.runs.stored_outputs import Outputs
from api.system import docs_routes, page_routes
from api.system import routes as service_routes
from api.system.disk_space import DiskReserve
from api.system.instance_lease import Lease, acquire, this_instance
from api.system.languages import Languages
from api.system.storage_health import StorageCheck
from config.settings import Settings, load_settings
from config.tracing import open_tracer
from dispatch.unix import UnixDispatcher
from records import Records, migrate, open_records
from records.retention import Policy, Retention
from storage.areas import for_api
from storage.links import Links
from storage.signing import keys_in_force

if TYPE_CHECKING:
    from config.values import Network
    from dispatch import Dispatcher
    from records.keys import KeyStore
    from storage.areas import ApiAreas

#: Every route, each with its `@operation`: the specification is made of them.
BLUEPRINTS = (
    runs_routes.blueprint,
    files_routes.blueprint,
    service_routes.blueprint,
    docs_routes.blueprint,
    keys_routes.blueprint,
    usage_routes.blueprint,
    admin_keys_routes.blueprint,
    page_routes.blueprint,
)


def routes_alone() -> Flask:
    """Return an application that has every route and nothing behind them: for the specification."""
    app = Flask("runyard", static_folder=None, template_folder=None)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def create_app(
    settings: Settings | None = None,
    dispatcher: Dispatcher | None = None,
    records: Records | None = None,
    storage: ApiAreas | None = None,
) -> Flask:
    """The application over a worker, a database and a store; what is not given is made from the settings, and
    started.
    """
    settings = settings or load_settings()
    plans = load_plans(settings)
    dispatcher = dispatcher or UnixDispatcher(settings.worker_socket, queue_wait_s=settings.queue_wait_s)
    storage = storage or for_api(settings)
    lease: Lease | None = None
    if records is None:
        migrate(settings.database)
        instance = this_instance(settings.api_home)
        records = open_records(settings.database, connections=settings.database_connections, instance=instance.id)
        acquire(records.leases, instance)  # taken by the master before; only held on to here
        lease = Lease(records.leases, instance)
        lease.start()
        Retention(records.retention, _policy(settings, plans, records.keys)).start()
        FileKeeper(records.files, storage, dispatcher).start()
    outputs = Outputs(storage)
    languages = Languages(dispatcher)
    runs = Runs(
        dispatcher,
        records.runs,
        languages,
        records.files,
        keep_files_ms=settings.keep_files_ms,
        siblings=settings.api_processes > 1,
        lease=lease,
        uploads=storage.uploads,
    )
    runs.start()
    app = Flask("runyard", static_folder=None, template_folder=None)
    # A doubled slash is another path, not a redirect with a page of HTML.
    app.url_map.merge_slashes = False
    metrics = Metrics()
    tracer = open_tracer("api", settings.otel_exporter_otlp_endpoint)
    access = Access(metrics, log=settings.access_log, tracer=tracer)
    app.extensions[EXTENSION] = Context(
        access=access,
        metrics=metrics,
        metrics_token=settings.metrics_token,
        settings=settings,
        authenticator=Authenticator(settings.keys(), records.keys, plans),
        administrator=Administrator(settings.admin_token),
        plans=plans,
        limiter=Limiter(
            url=settings.ratelimit_url,
            strangers=Bucket(settings.address_rps, settings.address_burst),
            keys_an_hour=settings.keys_per_hour,
        ),
        dispatcher=dispatcher,
        languages=languages,
        runs=runs,
        records=records,
        follower=Follower(dispatcher, records.runs, outputs.whole),
        outputs=outputs,
        storage=storage,
        storage_check=StorageCheck(storage),
        room=DiskReserve.of(settings),
        links=Links(keys_in_force(settings), base_url=settings.base_url, ttl_s=settings.link_ttl_s),
        places=Pools.of(settings),
    )
    if trusted := settings.trusted():
        app.before_request(lambda: _note_address(trusted))
    app.before_request(lambda: access.begin(request))
    errors.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.after_request(_add_headers)
    return app


def _policy(settings: Settings, plans: Plans, keys: KeyStore) -> Policy:
    """Return what is kept of ended runs: by age, by number, by bytes of all and of each stored key's plan."""
    bounds = {name: plan.records_bytes for name in plans if (plan := plans.get(name)) is not None}

    def key_bytes(owner: str) -> int | None:
        key = keys.get(owner)
        return bounds.get(key.plan) if key is not None else None

    return Policy(
        settings.runs_retention_days,
        settings.runs_retention_count,
        records_bytes=settings.records_quota_bytes,
        least_key_bytes=min((bound for bound in bounds.values() if bound is not None), default=None),
        key_bytes=key_bytes,
    )


def _note_address(trusted: tuple[Network, ...]) -> None:
    """From here on the request is its client's, for the limits and for the log alike."""
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
    environ = request.environ
    # In both places: the request has read it already, and the log is written from the environ.
    request.remote_addr = environ["REMOTE_ADDR"] = client_address(environ.get("REMOTE_ADDR"), forwarded, trusted)


def _add_headers(response: Response) -> Response:
    headers = response.headers
    facts = request.environ.get(ENVIRON_KEY)
    headers["x-request-id"] = facts.request_id if facts else request_id(request.headers.get("x-request-id"))
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    for name, value in g.get("rate_headers", {}).items():
        headers[name] = value
    return response
