"""The roles of a machine, `ROLE`: the parts of the service that run there. Standard library only.

`all` is the whole service on one machine. `api` and `worker` are for several machines with a broker between them,
`AMQP_URL`. With `all`, `AMQP_URL` puts the same broker between the api and the worker of this machine: so it can be
tried, and so the first of several machines can have both. Such a machine is not refused if it shares nothing, since
it may stay the only one; a warning names what must be shared before others use the same queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """The parts of the service on one machine."""

    name: str
    has_api: bool
    has_worker: bool


ALL = Role("all", has_api=True, has_worker=True)
API = Role("api", has_api=True, has_worker=False)
WORKER = Role("worker", has_api=False, has_worker=True)
ROLES: Mapping[str, Role] = {role.name: role for role in (ALL, API, WORKER)}


def role_of(environ: Mapping[str, str]) -> Role:
    """Return the role in an environment. Raises ValueError for one that there is not."""
    name = environ.get("ROLE") or ALL.name
    if name not in ROLES:
        raise ValueError(f"ROLE={name}: must be one of {', '.join(ROLES)}")
    return ROLES[name]
