"""Several api services on one database, with a broker, workers, one storage and one Redis."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from storage.layout import make_areas
from tests.support.apiprocess import Api
from tests.support.own_service import is_ready, new_state
from tests.support.redisserver import Redis
from tests.support.workers import Worker, until

#: Of every instance; ten seconds by default.
LEASE_S = 2
EX_CONFIG = 78
REFUSED_S = 30.0


class Machines:
    """What the apis share, and those that were started."""

    def __init__(self, broker, postgres, queue):
        self.broker, self.queue = broker, queue
        self.database = postgres.new_database()
        self.redis = Redis()
        self.storage = Path(tempfile.mkdtemp(prefix="runyard-shared-", dir="/var/lib"))
        self.storage.chmod(0o755)
        make_areas(self.storage, os.getuid())
        self.apis, self.workers = [], []

    def settings(self):
        return {
            "AMQP_URL": self.broker.url,
            "AMQP_QUEUE": self.queue,
            "DATABASE_URL": self.database,
            "STORAGE_DIR": str(self.storage),
            "RATELIMIT_URL": self.redis.url,
            "LEASE_S": str(LEASE_S),
        }

    def api(self, **settings):
        """Start an api; it need not be up yet."""
        made = Api(self.settings() | settings)
        self.apis.append(made)
        return made

    def worker(self, images, uid_base, **settings):
        """Start a worker; it need not be up yet."""
        given = {"LANGUAGES": "bash", "WARM_POOL": "bash=2", "MAX_RUNS": "4", "DRAIN_S": "2"}
        given |= {"AMQP_URL": self.broker.url, "AMQP_QUEUE": self.queue, "STORAGE_DIR": str(self.storage)}
        made = Worker(new_state(), images, **(given | {"UID_BASE": str(uid_base)} | settings))
        self.workers.append(made)
        return made

    def remove(self):
        for api in self.apis:
            api.end()
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.remove()
        self.redis.stop()
        shutil.rmtree(self.storage)


def ready(*apis):
    """Wait until services can run programs."""
    for api in apis:
        api.wait()
        until(lambda api=api: is_ready(api.service), 30)


def refused(api):
    """Wait for the end of one that is refused; what it says."""
    assert api.process.wait(REFUSED_S) == EX_CONFIG, api.said()
    assert "Traceback" not in api.said()
    return api.said()
