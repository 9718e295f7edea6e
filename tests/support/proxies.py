"""nginx and Caddy in front of the service, with the configuration of the documentation's pages."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.service import REPO, Service

NAME = "runyard.example.com"
STARTED_S = 30
#: Around the page's file, as Debian's own /etc/nginx/nginx.conf has it.
NGINX_CONF = """
user root;
worker_processes 1;
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/runyard.conf;
}}
"""
CADDY_OPTIONS = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


def configuration(page: str, language: str) -> str:
    """Return the one block of that language in a page of the documentation."""
    (found,) = re.findall(
        rf"^```{language}\n(.*?)^```$", (REPO / "docs" / page).read_text(), re.MULTILINE | re.DOTALL
    )
    return found


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """Return the text with each first text replaced, which must be there once."""
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the page's configuration"
        text = text.replace(old, new)
    return text


class ReverseProxy:
    """One proxy on a free port, with a certificate that it has signed itself, in front of `upstream` (host:port)."""

    def __init__(self, kind: str, place: Path, upstream: str) -> None:
        place.mkdir()
        self._place = place
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._certificate, self._key = place / "tls.pem", place / "tls.key"
        make_certificate(self._certificate, self._key)
        argv = self._nginx(upstream) if kind == "nginx" else self._caddy(upstream)
        assert shutil.which(argv[0]), f"{argv[0]} is not installed: make test-setup installs it"
        environment = {"PATH": os.environ["PATH"], "HOME": str(place), "XDG_DATA_HOME": str(place)}
        with (place / "output").open("wb") as output:
            self._process = subprocess.Popen(
                argv, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + STARTED_S
        while not self._answers():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    @property
    def origin(self) -> str:
        """Return the scheme and host by which clients reach the proxy."""
        return f"https://{NAME}:{self.port}"

    def said(self) -> str:
        """Return what the proxy has written."""
        return "\n".join(
            path.read_text() for path in (self._place / "output", self._place / "error.log") if path.exists()
        )

    def connect(self, timeout: float = 60) -> ssl.SSLSocket:
        """Return a TLS connection whose certificate is that of the proxy's name."""
        context = ssl.create_default_context(cafile=str(self._certificate))
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout), server_hostname=NAME
        )

    def client(self, service: Service) -> ProxiedService:
        """Return the service as a client behind the proxy reaches it."""
        return ProxiedService(NAME, self.port, service.state, proxy=self)

    def stop(self) -> None:
        """End the proxy."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            self.connect(5).close()
        except OSError:
            return False
        return True

    def _nginx(self, upstream: str) -> list[str]:
        page = replaced(
            configuration("nginx.md", "nginx"),
            ("server 127.0.0.1:8080;", f"server {upstream};"),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/ssl/runyard.pem", str(self._certificate)),
            ("/etc/ssl/runyard.key", str(self._key)),
        )
        (self._place / "runyard.conf").write_text(page)
        conf = self._place / "nginx.conf"
        conf.write_text(NGINX_CONF.format(place=self._place))
        return ["/usr/sbin/nginx", "-p", str(self._place), "-c", str(conf)]

    def _caddy(self, upstream: str) -> list[str]:
        page = replaced(
            configuration("caddy.md", "caddyfile"),
            (f"{NAME} {{\n", f"{NAME}:{self.port} {{\n\tbind 127.0.0.1\n\ttls {self._certificate} {self._key}\n"),
            ("reverse_proxy 127.0.0.1:8080 {", f"reverse_proxy {upstream} {{"),
        )
        conf = self._place / "Caddyfile"
        conf.write_text(CADDY_OPTIONS + page)
        return ["/usr/bin/caddy", "run", "--config", str(conf), "--adapter", "caddyfile"]


@dataclass(frozen=True)
class ProxiedService(Service):
    """The service through a proxy: each connection is TLS to the proxy's name."""

    proxy: ReverseProxy | None = None

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection to the proxy, whose Host is its name."""
        assert self.proxy is not None
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout)
        connection.sock = self.proxy.connect(timeout)
        return connection


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate of the proxy's name, signed by itself, and its key."""
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    argv += [
        "-subj",
        f"/CN={NAME}",
        "-addext",
        f"subjectAltName=DNS:{NAME}",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(argv, check=True, capture_output=True)
