"""The registries that builders may reach: those of the settings, else those that the tools on this host use.

A registry that neither names is the one that the tool in the image has built in; its builder asks it for that.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.network_patterns import PatternInvalid, parse_pattern
from sandbox.layers.credentials import Credentials

#: The certificates that this host trusts: a registry may be a mirror with a certificate of its operator.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PORTS = {"http": 80, "https": 443}
_REGISTRY_LINE = re.compile(r"^\s*registry\s*=\s*(\S+)\s*$", re.MULTILINE)
_GOPROXY_LINE = re.compile(r"^GOPROXY=(\S+)$", re.MULTILINE)


class RegistryUnusable(ValueError):
    """A registry's address that cannot be reached by a builder; the message says why."""


@dataclass(frozen=True, slots=True)
class Registries:
    """The address of each ecosystem's registry; empty: the one that its tool has built in."""

    pip: str = ""
    npm: str = ""
    go: str = ""
    cargo: str = ""

    def of(self, ecosystem: str) -> str:
        """Return the address of an ecosystem's registry."""
        return str(getattr(self, ecosystem))


def registries_of_host(given: Registries, home: Path) -> Registries:
    """Fill in the registries that are not given from the configuration of the tools on this host."""
    return Registries(
        pip=given.pip or _pip_index(home),
        npm=given.npm or _npm_registry(home),
        go=given.go or _found(_GOPROXY_LINE, [home / ".config/go/env"]),
        cargo=given.cargo or _cargo_index(home),
    )


def patterns_of(index: str, others: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of network.allow for a registry and further hosts of it. Raises RegistryUnusable.

    `index` may be several addresses, separated by commas, as Go has them.
    """
    found = [f"{host}:{port}" for host, port in map(_place_of, index.split(","))]
    found += [str(host) for host in others]
    for text in found:
        try:
            parse_pattern(text)
        except PatternInvalid as e:
            raise RegistryUnusable(f"the registry's host {text!r} is none: {e}") from e
    return tuple(dict.fromkeys(found))


def _place_of(index: str) -> tuple[str, int]:
    try:
        url = urlsplit(index)
        port = url.port
    except ValueError as e:
        raise RegistryUnusable(f"the registry's address {Credentials(index).masked(index)!r} is no URL") from e
    if url.scheme not in PORTS or not url.hostname:
        raise RegistryUnusable(
            f"the registry's address {Credentials(index).masked(index)!r} is no http or https URL"
        )
    host = url.hostname
    return f"[{host}]" if ":" in host else host, port or PORTS[url.scheme]


def refuse_password(index: str) -> None:
    """Raise RegistryUnusable for an address with a user name or password.

    It is for a registry whose address lies in the sandbox when code of packages is executed there.
    """
    if "@" in index.partition("://")[2].partition("/")[0]:
        raise RegistryUnusable("the index of crates has a password in its address, which build scripts could read")


def _pip_index(home: Path) -> str:
    for path in (home / ".pip/pip.conf", home / ".config/pip/pip.conf", Path("/etc/pip.conf")):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        found = parser.get("global", "index-url", fallback="").strip()
        if found:
            return found
    return ""


def _npm_registry(home: Path) -> str:
    return _found(_REGISTRY_LINE, [home / ".npmrc", Path("/etc/npmrc")])


def _cargo_index(home: Path) -> str:
    try:
        data: dict[str, Any] = tomllib.loads((home / ".cargo/config.toml").read_text("utf-8"))
        sources = data.get("source", {})
        name = sources.get("crates-io", {}).get("replace-with", "")
        return str(sources.get(name, {}).get("registry", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _found(line: re.Pattern[str], paths: Iterable[Path]) -> str:
    for path in paths:
        try:
            found = line.search(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if found is not None:
            return found[1]
    return ""


def certificates(path: Path = CERTIFICATES) -> str:
    """Return the certificates that this host trusts, in PEM form; empty if there are none."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def home_of_service() -> Path:
    """Return the home directory whose configuration of tools counts."""
    return Path(os.environ.get("HOME") or "/root")


def parse_hosts(text: bytes) -> tuple[str, list[str]]:
    """Return the registry and the further hosts that a builder's tool names. Raises RegistryUnusable."""
    try:
        found = json.loads(text)
        index, hosts = found["index"], found["hosts"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise RegistryUnusable("the builder's tool names no registry") from e
    if not isinstance(index, str) or not isinstance(hosts, list) or not all(isinstance(one, str) for one in hosts):
        raise RegistryUnusable("the builder's tool names no registry")
    return index, hosts
