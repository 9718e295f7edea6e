"""`python -m web.demo`: serve until SIGTERM. Exit status 78 means that the settings cannot work."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import urllib.request

from config.logging import setup
from web.demo.server import DemoServer
from web.demo.settings import DemoSettingsError, read_settings

EX_CONFIG = 78
CHECK_TIMEOUT_S = 8.0
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})

log = logging.getLogger("demo")


def main() -> int:
    """Serve until a stop signal, or check a server that runs. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="web.demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check whether the demo responds")
    if parser.parse_args().check:
        return 0 if _responds() else 1
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        settings = read_settings(os.environ)
        setup("demo", "INFO", frozenset({settings.key}))
        server = DemoServer(settings)
    except DemoSettingsError as e:
        print(f"demo: {e}", file=sys.stderr)
        return EX_CONFIG
    except OSError as e:
        print(f"demo: DEMO_BIND={settings.bind} DEMO_PORT={settings.port}: {e.strerror}", file=sys.stderr)
        return EX_CONFIG
    threading.Thread(target=server.serve_forever, name="accept", daemon=True).start()
    log.info("the demo serves", extra={"port": server.server_port, "service": settings.url})
    signal.sigwait(STOP_SIGNALS)
    server.shutdown()
    server.server_close()
    log.info("the demo stops")
    return 0


def _responds() -> bool:
    """Return whether the demo of this container responds."""
    try:
        port = read_settings(os.environ).port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=CHECK_TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    except (DemoSettingsError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
