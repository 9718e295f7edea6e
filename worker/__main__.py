"""`python -m worker`: owns the engine until SIGTERM. Exit status 78 means the configuration cannot work."""

from __future__ import annotations

import functools
import logging
import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING

from config.environment import secrets_in
from config.logging import setup
from config.settings import SettingsError, load_settings
from config.tracing import open_tracer
from config.version import VERSION
from sandbox.engines import EngineUnusable
from sandbox.engines.apparmor import load_own, profile_in_force
from storage.errors import StorageError, StorageMisconfigured
from worker.privileges import drop_privileges
from worker.server import Server
from worker.service import Service
from worker.telemetry import Observer

if TYPE_CHECKING:
    from config.settings import Settings
    from transport.access import BrokerAccess
    from worker.amqp import BrokerServer

EX_CONFIG = 78
#: The supervisor, or systemd, starts the worker again; it then loads its own AppArmor profiles.
EX_RESTART = 75
#: The longest time for which a thread holds the interpreter while another waits; Python's default is 5 ms.
SWITCH_INTERVAL_S = 0.0005

log = logging.getLogger("worker")


def main() -> int:
    """Serve until a stop signal and return the exit status. `--version` prints the version and serves nothing."""
    if sys.argv[1:] == ["--version"]:
        print(f"runyard {VERSION}")
        return 0
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before there are threads: they inherit it
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        settings = load_settings()
        access = _broker_access(settings)
        setup("worker", settings.log_level, secrets_in(os.environ))
        _all_descriptors()
        if not settings.disable_sandbox_security:
            load_own(settings.apparmor_profile)  # this takes a capability that is not kept
            profile_in_force(settings.apparmor_profile)
        drop_privileges()
        service = Service(settings)
        posture_failures: list[str] = []
        replaced: list[str] = []
        service.posture.on_failure = functools.partial(_stop_on_posture_failure, posture_failures)
        service.on_profile_change = functools.partial(_restart_for, replaced)
        service.start()
    except (SettingsError, EngineUnusable, StorageMisconfigured, ValueError) as e:
        log.critical("%s", e)
        return EX_CONFIG
    except StorageError as e:
        print(f"worker: {e}", file=sys.stderr)
        return 1
    settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Twice as many as may be under way: as many again may have ended and wait to be acknowledged.
    most_runs = 2 * (settings.max_runs + settings.queue_max) + 64
    tracer = open_tracer("worker", settings.otel_exporter_otlp_endpoint)
    service.observer = Observer(service.metrics, tracer)
    server = Server(service, settings.worker_socket, settings.api_uid, most_runs=most_runs)
    threading.Thread(target=server.serve, name="accept", daemon=True).start()
    broker: BrokerServer | None = None
    if access is not None:
        from worker.amqp import BrokerServer  # with its library, which one host does without

        broker = BrokerServer(access, service, server, settings)
        service.is_broker_connected = broker.is_connected
        broker.start()
    log.info("worker serves", extra={"engine": service.engine.name, "runtime": service.engine.runtime})
    signal.sigwait(signals)
    log.info("worker stops")
    if broker is not None:
        broker.drain()
    server.stop(settings.drain_s)
    if broker is not None:
        broker.stop()
    service.close()
    if tracer is not None:
        tracer.stop()
    if posture_failures:
        return EX_CONFIG
    return EX_RESTART if replaced else 0


def _broker_access(settings: Settings) -> BrokerAccess | None:
    """Return how to reach the broker, None without one. Raises SettingsError for unusable files."""
    if settings.amqp_url is None:
        return None
    from transport.access import broker_access

    return broker_access(settings)


def _stop_on_posture_failure(posture_failures: list[str], problem: str) -> None:
    """Stop the service, because a running sandbox lacks a required layer; the exit status names the reason."""
    if not posture_failures:
        posture_failures.append(problem)
        log.critical("the service stops, as sandboxes are not confined as they must be: %s", problem)
        os.kill(os.getpid(), signal.SIGTERM)


def _restart_for(replaced: list[str], problem: str) -> None:
    """Stop because an AppArmor profile in use has changed; the exit status asks for a restart, which loads it."""
    replaced.append(problem)
    log.critical("the worker restarts: %s", problem)
    os.kill(os.getpid(), signal.SIGTERM)


def _all_descriptors() -> None:
    """Use as many descriptors as this process may have: every sandbox, slot and connection takes some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
