"""Parsers of structured settings, such as addresses and secrets.

Each function raises ValueError whose message begins with the variable's name and never holds a secret.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

MIN_SIGNING_KEY_LENGTH = 32
MAX_SIGNING_KEYS = 16

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PATH = re.compile(r"(/[A-Za-z0-9._~%-]+)*/?")
MAX_PREFIX_LENGTH = 512
#: Of the servers that keep buckets; what comes after it is the client's business.
RATELIMIT_SCHEMES = ("redis", "rediss", "redis+unix", "valkey", "valkeys", "valkey+unix")

#: The other services whose wire contracts can be served.
DIALECT_NAMES = ("piston", "runakode", "runtools", "agent-coderunner", "tinirun")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """`s3://name/prefix`; the prefix has no slash at either end and may be empty."""

    name: str
    prefix: str


def parse_storage_url(text: str) -> S3Bucket:
    """Parse the URL of blob storage outside this machine."""
    scheme, _, rest = text.partition("://")
    name, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3" or not _BUCKET.fullmatch(name) or ".." in name:
        raise ValueError("STORAGE_URL: must be s3://bucket or s3://bucket/prefix")
    if prefix and (len(prefix) > MAX_PREFIX_LENGTH or not _PREFIX.fullmatch(prefix)):
        raise ValueError(
            f"STORAGE_URL: the prefix may be at most {MAX_PREFIX_LENGTH} of A-Z a-z 0-9 _ - . and / between parts"
        )
    return S3Bucket(name, prefix)


def parse_base_url(name: str, text: str) -> str:
    """Parse an http(s) URL to which a path can be appended: no trailing slash, no query, no credentials."""
    problem = f"{name}: must be http://host or https://host, with a port and a path if need be, and nothing else"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        raise ValueError(problem) from e
    if (
        not text.isprintable()
        or parts.scheme not in {"http", "https"}
        or not _HOST.fullmatch(parts.hostname or "")
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or text.endswith(("?", "#"))
        or not _PATH.fullmatch(parts.path)
        or port == 0
    ):
        raise ValueError(problem)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def parse_signing_keys(text: str, *, min_length: int) -> tuple[str, ...]:
    """Return the secrets of `SIGNING_KEY`, the newest first: the newest signs, all verify."""
    keys = tuple(key for part in text.split(",") if (key := part.strip()))
    if not keys:
        raise ValueError("SIGNING_KEY: is set but holds no key")
    if len(keys) > MAX_SIGNING_KEYS:
        raise ValueError(f"SIGNING_KEY: more than {MAX_SIGNING_KEYS} keys")
    for number, key in enumerate(keys, start=1):
        if len(key) < min_length:
            raise ValueError(f"SIGNING_KEY: key {number} is shorter than {min_length} characters")
    return keys


def parse_ratelimit_url(text: str) -> str:
    """Parse the URL of the rate-limit server. It may hold a password, so no message shows it."""
    problem = "RATELIMIT_URL: must be redis://host:port/number, or valkey://, rediss://, redis+unix:///path"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        raise ValueError(problem) from e
    if not text.isprintable() or parts.scheme not in RATELIMIT_SCHEMES or port == 0 or parts.fragment:
        raise ValueError(problem)
    local = parts.scheme.endswith("+unix")
    if (local and not parts.path) or (not local and not _HOST.fullmatch(parts.hostname or "")):
        raise ValueError(problem)
    if not local and not re.fullmatch(r"/?|/\d{1,4}", parts.path):
        raise ValueError(f"{problem}; the path is the number of a database")
    return text


def parse_networks(text: str, name: str = "TRUSTED_PROXIES") -> tuple[Network, ...]:
    """Parse addresses and networks, comma-separated. `name` is the setting's."""
    found: list[Network] = []
    for number, entry in enumerate((part.strip() for part in text.split(",") if part.strip()), start=1):
        try:
            found.append(ipaddress.ip_network(entry))
        except ValueError as e:
            raise ValueError(f"{name}: entry {number} is not an address or a network such as 10.0.0.0/8") from e
    return tuple(found)


def parse_registry(name: str, text: str) -> None:
    """Check the address of a registry of packages, or of several, comma-separated. Raises ValueError."""
    for entry in text.split(","):
        try:
            url = urlsplit(entry.strip().removeprefix("sparse+"))
            usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"{name}: must be a URL that begins with https:// or http://")


def parse_dialects(text: str) -> frozenset[str]:
    """Return the names in `DIALECTS`; `all` names every one and `none` no one."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    if names == ["all"]:
        return frozenset(DIALECT_NAMES)
    if names == ["none"]:
        return frozenset()
    for name in names:
        if name not in DIALECT_NAMES:
            raise ValueError(f"DIALECTS: must be all, none, or some of {', '.join(DIALECT_NAMES)}, comma-separated")
    return frozenset(names)
