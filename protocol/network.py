"""The network that a run asks for, as it travels from api to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocol.limits import JobInvalid

#: The port of the agent's proxy in a sandbox.
PROXY_PORT = 3128
PROXY_URL = f"http://127.0.0.1:{PROXY_PORT}"
NO_PROXY = "localhost,127.0.0.1,::1"
_FIELDS = frozenset({"allow", "deny", "most_bytes"})


def proxy_environment() -> dict[str, str]:
    """Return the variables by which programs find the proxy; tools read them in one case or the other."""
    urls = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), PROXY_URL) | {"NO_PROXY": NO_PROXY}
    return urls | {name.lower(): value for name, value in urls.items()} | {"NODE_USE_ENV_PROXY": "1"}


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    """The patterns of the hosts that a run may reach; `deny` wins.

    `most_bytes` is what it may send and receive in all; None is no bound.
    """

    allow: tuple[str, ...]
    deny: tuple[str, ...] = ()
    most_bytes: int | None = None


def encode_network(access: NetworkAccess | None) -> dict[str, Any] | None:
    """Return the access as JSON-ready data."""
    if access is None:
        return None
    return {"allow": list(access.allow), "deny": list(access.deny), "most_bytes": access.most_bytes}


def decode_network(data: object) -> NetworkAccess | None:
    """Return the access that `encode_network` encoded. Raises JobInvalid; the patterns are for others to judge."""
    if data is None:
        return None
    if not isinstance(data, dict) or set(data) - _FIELDS:
        raise JobInvalid("network: must be an object of the fields agreed on", param="network", code="invalid_type")
    most = data.get("most_bytes")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 0):
        raise JobInvalid("network: most_bytes must be a number", param="network", code="invalid_type")
    return NetworkAccess(_texts("allow", data.get("allow")), _texts("deny", data.get("deny", [])), most)


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        where = f"network.{name}"
        raise JobInvalid(f"{where}: must be a list of strings", param=where, code="invalid_type")
    return tuple(str(entry) for entry in value)
