"""The parts that the machines of one service share: which of them a machine's settings lack.

A worker needs the broker and the storage alone: records, limits and links are the api's, and a machine that runs
programs should not hold their secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.roles import ALL, Role

if TYPE_CHECKING:
    from config.settings import Settings

STORAGE = "STORAGE_URL=s3://bucket/prefix (files and artifacts)"


def shared_queue(settings: Settings) -> str | None:
    """Return the queue by which this api may share its database with others at a time; None if it may not.

    A service with ROLE=all shares storage by STORAGE_URL, or by a STORAGE_DIR that the operator has named.
    """
    missing = missing_shared(settings, settings.parts)
    if settings.storage_dir is not None:
        missing = [sentence for sentence in missing if sentence != STORAGE]
    return None if missing or not settings.parts.has_api else settings.amqp_queue


def missing_shared(settings: Settings, role: Role) -> list[str]:
    """Return each setting that is missing for one of several machines, with what it is for."""
    missing = []
    if settings.amqp_url is None:
        missing.append("AMQP_URL=amqp://user:password@host/vhost (RabbitMQ between api and workers)")
    if settings.storage_url is None:
        missing.append(STORAGE)
    if role.has_api:
        database = settings.database_url
        if database is None or database.startswith("sqlite:"):
            missing.append("DATABASE_URL=postgresql://user:password@host/name (records, which SQLite cannot share)")
        if settings.ratelimit_url is None:
            missing.append("RATELIMIT_URL=redis://host:port/0 (Redis or Valkey, for rate limits)")
        if settings.signing_key is None:
            missing.append("SIGNING_KEY (one for all machines, for links)")
    return missing


def check_shared(settings: Settings) -> None:
    """Check that a machine of several shares all that it must. Raises ValueError that names all it lacks."""
    if settings.parts == ALL:
        return
    missing = missing_shared(settings, settings.parts)
    if missing:
        raise ValueError(
            f"ROLE={settings.role} is for one of several machines, which share what is missing here: "
            f"set {', '.join(missing)}. A machine that does everything itself has ROLE=all"
        )


def sharing_warnings(settings: Settings) -> tuple[str, ...]:
    """Warn about a whole service that uses a broker and could not share it."""
    missing = missing_shared(settings, ALL) if settings.parts == ALL and settings.amqp_url is not None else []
    if not missing:
        return ()
    warning = (
        "AMQP_URL with ROLE=all: the api and the worker of this machine are connected by the broker; no other "
        f"machine may use AMQP_QUEUE={settings.amqp_queue} there before these are set: {', '.join(missing)}"
    )
    return (warning,)
