"""Debian's archive: which mirror a build uses, how apt reaches it, and the small root made from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from ops.images.errors import HostLacks
from ops.images.inputs import SUITE
from ops.images.run import run

KEYRINGS = [Path(f"/usr/share/keyrings/debian-archive-keyring.{kind}") for kind in ("gpg", "pgp")]
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
NO_DOCS = [f"path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "info", "lintian")]


def sources(mirror: str, security: str, suite: str = SUITE) -> str:
    """Return apt's list of sources for a suite of Debian, by default that of the images."""
    return f"deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\ndeb {security} {suite}-security main\n"


def host_sources(suite: str = SUITE) -> str:
    """Return the same from the mirror that this host uses itself: it may be the only one it can reach.

    `DEBIAN_MIRROR` and `DEBIAN_SECURITY_MIRROR` override it.
    """
    main, security = _host_mirrors()
    main = os.environ.get("DEBIAN_MIRROR") or main
    security = os.environ.get("DEBIAN_SECURITY_MIRROR") or security or (main and f"{main}-security")
    if not main:
        raise HostLacks("base: no Debian mirror in apt's sources; set DEBIAN_MIRROR")
    return sources(main, security, suite)


def bootstrap(target: Path, packages: list[str], env: dict[str, str]) -> None:
    """Make Debian's minimal root with `packages` in `target`; nothing of this host is left in it."""
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        raise HostLacks("base: install debian-archive-keyring")
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    argv += [f"--include={','.join(packages)}", f"--keyring={keyring}"]
    argv += [f"--dpkgopt={line}" for line in NO_DOCS]
    argv += [f"--aptopt={line}" for line in acquire_options()]
    listing = target.parent / "sources.list"
    listing.write_text(host_sources())
    run([*argv, SUITE, str(target), str(listing)], env=env, what="base")
    listing.unlink()
    for name in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/resolv.conf", "etc/hostname"):
        (target / name).unlink(missing_ok=True)
    # Which mirror made it is the host's business; a sandbox has no network to use one.
    (target / "etc/apt/sources.list").write_text("")


def acquire_options() -> list[str]:
    """Return apt options for this host's proxies and certificates."""
    listed = _output(["apt-config", "dump", "Acquire::http", "Acquire::https"])
    wanted = ("::Proxy", "::CaInfo", "::Verify-Peer")
    return [line for line in listed.splitlines() if line.split(" ", 1)[0].endswith(wanted)]


def _host_mirrors() -> tuple[str, str]:
    listed = _output(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"])
    found = [
        (origin, uri.rstrip("/"))
        for origin, _, uri in (line.partition("|") for line in listed.splitlines())
        if urlsplit(uri).scheme in ("http", "https")
    ]
    # The origin is known once apt has fetched its lists; before that, only the path is known.
    uris = [uri for origin, uri in found if origin == "Debian"] or [uri for _, uri in found]
    main = next((uri for uri in uris if uri.endswith("/debian")), "")
    security = next((uri for uri in uris if uri.endswith("/debian-security")), "")
    return main, security


def _output(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
