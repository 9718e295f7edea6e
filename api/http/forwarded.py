"""Take a request's client address, scheme and host from the headers of trusted proxies (`TRUSTED_PROXIES`).

Headers of everybody else are ignored. `X-Forwarded-Proto` and `X-Forwarded-Host` count only if the connection comes
from a trusted proxy and if they have one valid value: of several values, the first may be the client's own.
Otherwise the request keeps its own scheme and host.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from api.ratelimit.client_address import client_address, is_proxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from api.ratelimit.client_address import Network

SCHEMES = frozenset({"http", "https"})
MAX_PORT = 65535
MAX_REMEMBERED = 256
#: A name or an IPv4 address, or an IPv6 address in brackets; then a port. No path, no user, no space.
_HOST = re.compile(
    r"(?:[A-Za-z0-9._-]{1,253}|\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


class TrustedProxies:
    """A WSGI application whose requests have the address, scheme and host by which clients reach its proxies."""

    def __init__(self, application: WSGIApplication, trusted: Sequence[Network]) -> None:
        self._application = application
        self._trusted = trusted
        # Nearly all requests come from few addresses, and to parse one costs more than all the rest here.
        self._is_proxy = lru_cache(maxsize=MAX_REMEMBERED)(lambda address: is_proxy(address, trusted))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the request with what its proxies report, for links, limits and the log alike."""
        remote = environ.get("REMOTE_ADDR")
        if self._is_proxy(remote or ""):
            _take_origin(environ)
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        environ["REMOTE_ADDR"] = client_address(remote, forwarded, self._trusted)
        return self._application(environ, start_response)


def is_host(text: str) -> bool:
    """Return whether this is a host, with or without a port, that may stand in a link."""
    found = _HOST.fullmatch(text)
    if found is None:
        return False
    port = found["port"]
    if port is not None and not 1 <= int(port) <= MAX_PORT:
        return False
    return found["ipv6"] is None or _is_ipv6(found["ipv6"])


def origin(scheme: str, host: str) -> str | None:
    """Return the scheme and host by which a client reached this service; None if the host must not be repeated."""
    return f"{scheme}://{host}" if is_host(host) else None


def _take_origin(environ: WSGIEnvironment) -> None:
    scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").strip(" \t").lower()
    if scheme in SCHEMES:
        environ["wsgi.url_scheme"] = scheme
    host = environ.get("HTTP_X_FORWARDED_HOST", "").strip(" \t")
    if is_host(host):
        environ["HTTP_HOST"] = host


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
