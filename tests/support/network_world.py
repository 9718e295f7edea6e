"""A whole service with EGRESS=on, and servers on this machine's own addresses that its runs may reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.support.egress_servers import DnsServer, EchoServer, PassingProxy, WebServer, make_certificate
from tests.support.own_service import OwnService, new_state
from tests.support.workers import until

DNS_PORT = 5391
ADDRESS = "127.91.0.1"
HOST = "api.example.test"
ALLOWED = {"allow": [HOST, "files.example.test", f"{HOST}:9091"]}


class World:
    """The service, and the servers that its runs may reach."""

    def __init__(self, service, folder):
        self.service = service
        both, certificate = make_certificate(folder, HOST, "files.example.test")
        self.certificate = certificate.read_text()
        self.root = folder / "root"
        self.root.mkdir()
        self.dns = DnsServer(DNS_PORT)
        self.web = WebServer(ADDRESS, 80, root=self.root)
        self.tls = WebServer(ADDRESS, 443, certificate=both, root=self.root)
        self.echo = EchoServer(ADDRESS, 9091)
        for name in (HOST, "files.example.test", "evil.example.test"):
            self.dns.add(name, [ADDRESS])

    def run(self, code, *, language="python", network=ALLOWED, **fields):
        files = [{"path": "ca.pem", "content": self.certificate}]
        return self.service.run(language, code, network=network, files=files, **fields)

    def process(self):
        """Return the pid of the egress process."""
        python = str(self.service.state / "venv/bin/python").encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv[0] == python and argv[-3:-1] == [b"-m", b"egress"]:
                return int(entry.name)
        return None

    def close(self):
        for server in (self.dns, self.web, self.tls, self.echo):
            server.close()


def start_world(service, uid_base: int, folder: Path, plans: str | None = None, **settings: str) -> Iterator[World]:
    """Start the service and the servers; stop both in the end."""
    state = new_state()
    if plans is not None:
        (state / "plans.toml").write_text(plans)
        (state / "plans.toml").chmod(0o644)
        settings["PLANS_FILE"] = str(state / "plans.toml")
    settings = {
        "EGRESS": "on",
        "EGRESS_ALLOW": "*.example.test,*:9091",
        "RUNYARD_EGRESS_TEST": f"127.91.0.0/16;127.0.0.1:{DNS_PORT}",
        **settings,
    }
    made = OwnService(service, state, uid_base, **settings)
    with ExitStack() as until_the_end:
        until_the_end.callback(shutil.rmtree, state)
        until_the_end.callback(made.down)
        running = made.up()
        found = World(running, folder)
        until_the_end.callback(found.close)
        until(lambda: found.process() is not None and (running.state / "run/egress/egress.sock").exists(), 30)
        yield found


def run_by_proxy(
    world: World, argv: list[str], directory: Path, env: dict[str, str], *, allow: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run one of this machine's programs so that all its connections go to the egress process."""
    opening = {"op": "connect", "run": "run_x", "key": "k", "allow": allow, "deny": []}
    proxy = PassingProxy(world.service.state / "run/egress/egress.sock", json.dumps(opening).encode() + b"\n")
    urls = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy.url)
    env = {**os.environ, **urls, "NO_PROXY": "", "no_proxy": "", "CARGO_HTTP_MULTIPLEXING": "false", **env}
    try:
        done = subprocess.run(
            argv, cwd=directory, env=env, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        proxy.close()
    assert done.returncode == 0, done.stderr
    return done
