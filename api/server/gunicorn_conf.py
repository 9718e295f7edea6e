"""gunicorn's settings, derived from the service's.

Start: `gunicorn -c python:api.server.gunicorn_conf 'api.app:create_app()'`.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from api.http import metrics
from api.keys.static_keys import static_callers
from api.server.gunicorn_worker import KEEPALIVE_WAITERS, LINGERERS, Logger, Worker
from api.system import instance_lease
from config import logging as service_logging
from config.environment import secrets_in
from config.settings import SettingsError, load_settings
from records import migrate, open_records
from records.errors import RecordsTooNew, RecordsUnavailable

if TYPE_CHECKING:
    from records.leases import Instance

log = logging.getLogger(__name__)

#: The supervisor stops everything: this configuration cannot work.
EX_CONFIG = 78
_settings = load_settings()

bind = f"[{_settings.bind}]:{_settings.port}" if ":" in _settings.bind else f"{_settings.bind}:{_settings.port}"
worker_class = Worker
logger_class = Logger
# Several share the keys' buckets in Redis (checked by the settings). A run waits on a thread of its own.
workers = _settings.api_processes
threads = _settings.api_threads + KEEPALIVE_WAITERS + LINGERERS
#: Connections that wait for a request, or whose answer is suspended, hold a descriptor and no thread.
worker_connections = threads + _settings.stream_places + 1024
backlog = 512
keepalive = 75
# The heartbeat of the process, not the time of a request: threads that wait for runs do not delay it.
timeout = 60
graceful_timeout = math.ceil(_settings.drain_s) + 1
worker_tmp_dir = "/dev/shm"  # noqa: S108  # an unlinked file for the heartbeat, never on a disk
control_socket_disable = True
accesslog = None
# Nothing in front of the service is believed to know more of the client than its socket.
forwarded_allow_ips = ""
limit_request_line = 8190
limit_request_fields = 100


def on_starting(_server: object) -> None:
    """Log as the rest of the service does, and have a descriptor for every connection and thread."""
    service_logging.setup("api", _settings.log_level, secrets_in(os.environ))
    if counted := os.environ.get(metrics.DIRECTORY):
        metrics.prepare(Path(counted))
    wanted = worker_connections + 2 * threads + _settings.stream_places + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    _take_lease()


def worker_exit(_server: object, worker: Worker) -> None:
    """Stop what the application has started in this process."""
    served = getattr(worker, "served", None)  # an application that failed to start has stopped itself
    if served is not None:
        served.lifecycle.stop()
    gc.freeze()  # else the interpreter looks through all objects as it ends: 0.4 s of processor time


def on_exit(_server: object) -> None:
    """Give up the lease on the database, so that another instance need not wait for its end."""
    if _taken:
        records = open_records(_settings.database, connections=1, wait_s=1)
        try:
            records.leases.release(_taken[0])
        except RecordsUnavailable:
            log.warning("the lease on the database could not be released; it expires")
        finally:
            records.close()


#: This instance, once it has its lease.
_taken: list[Instance] = []


def _take_lease() -> None:
    """Take the lease on the database; exit with 78 where one that lives, or a newer one, does not share it.

    Exit with 78 also where API_KEYS would merge tenants.
    """
    try:
        instance = instance_lease.this_instance(_settings.api_home, _settings)
        migrate(_settings.database)
        records = open_records(_settings.database, connections=1, lease_ms=_settings.lease_ms)
        try:
            instance_lease.acquire(records.leases, instance)
            # Here too, where a refusal ends the start: each process does the same for itself.
            static_callers(_settings.keys(), records.tenants)
        finally:
            records.close()
    except (SettingsError, RecordsTooNew) as e:
        log.critical("%s", e)
        sys.exit(EX_CONFIG)
    except RecordsUnavailable as e:
        log.error("the api cannot start: %s", e)  # noqa: TRY400  # the supervisor starts it again
        sys.exit(1)
    _taken.append(instance)
