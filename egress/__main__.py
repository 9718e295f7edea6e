"""`python -m egress`: serve until SIGTERM. Exit status 78 means the configuration cannot work."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys

from config.environment import secrets_in
from config.logging import setup
from config.parsers import Network, parse_networks
from config.settings import Settings, SettingsError, load_settings
from egress.addresses import AddressRules
from egress.dialer import Dialer
from egress.resolver import Resolver, Server
from egress.server import EgressServer

EX_CONFIG = 78
#: A connection takes two descriptors, and while it is made one for each try and each question.
DESCRIPTORS_EACH = 12
#: The tests' servers are on this machine: `networks;address:port of a DNS server`. Nothing but a test sets it, and
#: it has no effect in production.
TEST_SWITCH = "RUNYARD_EGRESS_TEST"

log = logging.getLogger("egress")


def main() -> int:
    """Serve until a stop signal, and return the exit status."""
    try:
        settings = load_settings()
    except SettingsError as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    setup("egress", settings.log_level, secrets_in(os.environ))
    if os.geteuid() == 0:
        log.critical("the egress process must not be root")
        return EX_CONFIG
    _descriptors(settings.egress_connections)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    own, servers = _test_switch(settings)
    rules = AddressRules(
        private=settings.egress_private_networks(), denied=settings.egress_deny_networks(), own=own
    )
    server = EgressServer(
        settings.egress_socket, Dialer(Resolver(servers), rules), most=settings.egress_connections
    )
    serving = asyncio.create_task(server.serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    log.info("egress serves")
    try:
        await serving
    except asyncio.CancelledError:
        log.info("egress stops")


def _test_switch(settings: Settings) -> tuple[tuple[Network, ...], list[Server] | None]:
    """Return the addresses of this machine that tests permit, and the tests' DNS servers."""
    text = os.environ.get(TEST_SWITCH, "")
    if not text or settings.runyard_env != "development":
        return (), None
    log.critical("%s is set: addresses of this machine can be reached", TEST_SWITCH)
    networks, _, server = text.partition(";")
    host, _, port = server.rpartition(":")
    return parse_networks(networks, TEST_SWITCH), [(host, int(port))] if server else None


def _descriptors(connections: int) -> None:
    """Have as many descriptors as the connections may take, as far as the hard limit goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 256 + DESCRIPTORS_EACH * connections
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    sys.exit(main())
