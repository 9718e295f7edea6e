"""The check that DOCKER_HOST is on this host, where sandboxes can be measured."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit


def check_docker_host(text: str) -> None:
    """Check that a Docker daemon's address is on this host. Raises ValueError.

    No name is looked up: of names only `localhost` and the name of this host are known to be here.
    """
    url = text if "://" in text else f"tcp://{text}"  # as the Docker SDK reads it
    scheme = url.partition("://")[0].lower()
    if scheme in ("unix", "http+unix"):
        return
    try:
        host = urlsplit(url).hostname or ""
    except ValueError as e:
        raise ValueError("DOCKER_HOST: must be the socket of a daemon on this host, unix:///path") from e
    if not _is_here(host):
        raise ValueError(
            f"DOCKER_HOST={scheme}://{host}: the daemon is on another machine. Sandboxes are measured and ended "
            "through the /proc and the control groups of this host, so the daemon must be here: "
            "DOCKER_HOST=unix:///var/run/docker.sock, or ENGINE=oci, which needs no daemon"
        )


def _is_here(host: str) -> bool:
    if host in ("localhost", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or _is_own(address)


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an interface of this host has the address: a socket can be bound to no other."""
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
