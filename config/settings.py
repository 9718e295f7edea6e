"""The settings of the service: the values of the table, what follows from them, and how they are loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError, model_validator

from config.amqp_url import AmqpAddress, parse_amqp_url
from config.docker_host import check_docker_host
from config.network_patterns import Pattern, parse_pattern_list
from config.parsers import (
    MIN_SIGNING_KEY_LENGTH,
    Network,
    S3Bucket,
    parse_dialects,
    parse_networks,
    parse_signing_keys,
    parse_storage_url,
)
from config.roles import ROLES, Role
from config.setting_checks import CheckedSettings
from config.setting_table import PackageMode
from config.shared_parts import check_shared
from config.static_keys import ApiKey, parse_api_keys

DEVELOPMENT_KEYS = "dev_123:dev:1000:1000"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: Clients without a key that may read long documents, and the part reserved for addresses that read few.
DOCUMENT_PLACES, DOCUMENT_RESERVE = 16, 2
#: One variable a language: the image to run instead of the one built here.
IMAGE_PREFIX = "RUNNER_IMAGE_"
#: Accepted because users of such services set them; there is no shared host directory here.
UNUSED = ("SANDBOX_WORKDIR", "HOST_SANDBOX_DIR")


class SettingsError(ValueError):
    """The environment does not describe a service that may start; the message names each variable."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        """`problems` are those that the message joins, if it is more than one."""
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class Settings(CheckedSettings):
    """All settings of the service, and what follows from them."""

    @model_validator(mode="after")
    def _signing_keys_are_long(self) -> Settings:
        self.signing_keys()
        return self

    @model_validator(mode="after")
    def _insecure_bind(self) -> Settings:
        if self.bind in LOOPBACK or self.allow_insecure_bind:
            return self
        if any(key.token == "dev_123" for key in self.keys()):  # noqa: S105
            raise ValueError(
                f"BIND={self.bind} with the development token dev_123 is refused: "
                "set API_KEYS, or ALLOW_INSECURE_BIND=1"
            )
        if self.self_service_keys:
            raise ValueError(
                f"BIND={self.bind} with SELF_SERVICE_KEYS=1 gives everybody there a key: "
                "set SELF_SERVICE_KEYS=0, or ALLOW_INSECURE_BIND=1"
            )
        return self

    @model_validator(mode="after")
    def _several_processes_share_their_buckets(self) -> Settings:
        if self.api_processes > 1 and self.ratelimit_url is None:
            raise ValueError(
                f"API_PROCESSES={self.api_processes} without RATELIMIT_URL is refused: "
                "each process would have buckets of its own"
            )
        return self

    @model_validator(mode="after")
    def _certificates_need_amqps(self) -> Settings:
        files = {"AMQP_CA_FILE": self.amqp_ca_file, "AMQP_CERT_FILE": self.amqp_cert_file}
        files["AMQP_KEY_FILE"] = self.amqp_key_file
        given = [name for name, path in files.items() if path is not None]
        address = self.amqp_address
        if given and (address is None or not address.is_tls):
            raise ValueError(f"{given[0]}: is for AMQP_URL=amqps://… alone")
        if (self.amqp_cert_file is None) != (self.amqp_key_file is None):
            raise ValueError("AMQP_CERT_FILE and AMQP_KEY_FILE: one without the other is refused")
        return self

    @model_validator(mode="after")
    def _several_machines_share(self) -> Settings:
        check_shared(self)
        return self

    @model_validator(mode="after")
    def _the_docker_daemon_is_on_this_host(self) -> Settings:
        if self.engine != "oci":  # without the engine, DOCKER_HOST is of no concern here
            check_docker_host(self.docker_host)
        return self

    @property
    def parts(self) -> Role:
        """Return the parts of the service on this machine."""
        return ROLES[self.role]

    @property
    def compile_timeout_ms(self) -> int:
        """Return the maximum time that compiling may take, in milliseconds."""
        return round(self.compile_timeout_s * 1000)

    @property
    def lease_ms(self) -> int:
        """Return how long a lease on the database is alive after its last heartbeat, in milliseconds."""
        return round(self.lease_s * 1000)

    def keys(self) -> tuple[ApiKey, ...]:
        """Return the valid static keys."""
        if self.api_keys is not None:
            return parse_api_keys(self.api_keys)
        return parse_api_keys(DEVELOPMENT_KEYS) if self.runyard_env == "development" else ()

    @property
    def self_service(self) -> bool:
        """Return whether clients may create keys themselves."""
        if self.self_service_keys is not None:
            return self.self_service_keys
        return self.runyard_env == "development" and (self.bind in LOOPBACK or self.allow_insecure_bind)

    def dialect_names(self) -> frozenset[str]:
        """Return the names of the dialects that are served."""
        return parse_dialects(self.dialects)

    def trusted(self) -> tuple[Network, ...]:
        """Return the networks of the trusted proxies."""
        return () if self.trusted_proxies is None else parse_networks(self.trusted_proxies)

    @property
    def package_mode(self) -> PackageMode:
        """Return which packages runs may ask for."""
        if self.packages is not None:
            return self.packages
        return "any" if self.runyard_env == "development" else "off"

    @property
    def has_egress(self) -> bool:
        """Return whether there is an egress process: for runs that reach hosts, or for builds of packages."""
        return self.egress == "on" or self.package_mode != "off"

    def egress_patterns(self) -> tuple[Pattern, ...]:
        """Return the patterns of the hosts that runs may ask for."""
        return () if self.egress_allow is None else parse_pattern_list(self.egress_allow, "EGRESS_ALLOW")

    def egress_private_networks(self) -> tuple[Network, ...]:
        """Return the networks that may be reached although they are private."""
        return () if self.egress_private is None else parse_networks(self.egress_private, "EGRESS_PRIVATE")

    def egress_deny_networks(self) -> tuple[Network, ...]:
        """Return the networks that may not be reached."""
        return () if self.egress_deny is None else parse_networks(self.egress_deny, "EGRESS_DENY")

    def signing_keys(self) -> tuple[str, ...]:
        """Return the keys of `SIGNING_KEY`, the newest first; empty if it is unset."""
        if self.signing_key is None:
            return ()
        least = 1 if self.runyard_env == "development" else MIN_SIGNING_KEY_LENGTH
        return parse_signing_keys(self.signing_key, min_length=least)

    @property
    def base_url(self) -> str:
        """Return the base of links, without a trailing slash."""
        if self.public_base_url is not None:
            return self.public_base_url
        host = "localhost" if self.bind in LOOPBACK | {"0.0.0.0", "::"} else self.bind  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def max_upload_bytes(self) -> int:
        return self.max_upload_mb * 1024 * 1024

    @property
    def storage_quota_bytes(self) -> int:
        return self.storage_quota_mb * 1024 * 1024

    @property
    def records_quota_bytes(self) -> int:
        return self.records_quota_mb * 1024 * 1024

    @property
    def disk_reserve_bytes(self) -> int:
        return self.disk_reserve_mb * 1024 * 1024

    @property
    def keep_files_ms(self) -> int:
        return int(self.retention_hours * 3_600_000)

    @property
    def storage(self) -> Path:
        return self.storage_dir or self.state_dir / "storage"

    @property
    def bucket(self) -> S3Bucket | None:
        """Return the S3 location of blobs; None if they are stored locally."""
        return None if self.storage_url is None else parse_storage_url(self.storage_url)

    @property
    def amqp_address(self) -> AmqpAddress | None:
        """Return the address of the broker between api and workers; None on one machine."""
        return None if self.amqp_url is None else parse_amqp_url(self.amqp_url)

    @property
    def api_home(self) -> Path:
        """Return api's private directory."""
        return self.state_dir / "api"

    @property
    def images(self) -> Path:
        return self.images_dir or self.state_dir / "images"

    @property
    def run_dir(self) -> Path:
        """Return the directory for sockets and process files of the running service."""
        return self.state_dir / "run"

    @property
    def database(self) -> str:
        """Return the URL of the database."""
        return self.database_url or f"sqlite:///{self.state_dir.absolute()}/db/runyard.sqlite"

    @property
    def database_file(self) -> Path:
        """Return the path of the SQLite database."""
        return Path(self.database.removeprefix("sqlite:///"))

    @property
    def worker_socket(self) -> Path:
        return self.run_dir / "worker.sock"

    @property
    def layers_dir(self) -> Path:
        """The directory of the layers of packages, which only root may enter."""
        return self.state_dir / "layers"

    @property
    def egress_dir(self) -> Path:
        """The directory of the egress process's socket, which its own account and root may enter."""
        return self.run_dir / "egress"

    @property
    def egress_socket(self) -> Path:
        return self.egress_dir / "egress.sock"

    @property
    def egress_uid(self) -> int:
        """The unprivileged uid and gid of the egress process."""
        return self.uid_base + 1

    @property
    def api_uid(self) -> int:
        """Return the unprivileged uid and gid of the api process."""
        return self.uid_base

    @property
    def api_threads(self) -> int:
        """Return the limit of api's threads: the places of all pools of threads and a reserve for health checks.

        Threads are created on demand.
        """
        places = self.waiting_places + self.reading_places + self.upload_places + DOCUMENT_PLACES
        return places + self.api_reserve_threads // 2

    @property
    def waiting_places(self) -> int:
        """Return the number of runs that clients may wait for. It has a margin: the worker reports a full queue."""
        return self.waiting_reserve + self.queue_max + self.max_runs + self.api_reserve_threads // 2

    @property
    def waiting_reserve(self) -> int:
        """Return the waiting places reserved for keys that hold few, for the case that one key holds all others."""
        return self.queue_max + self.max_runs

    @property
    def reading_places(self) -> int:
        """Return the number of clients that may read long answers, including the reserve."""
        return self.event_readers + self.reading_reserve

    @property
    def reading_reserve(self) -> int:
        return _eighth(self.event_readers)

    @property
    def stream_places(self) -> int:
        """Return the number of clients that may follow events, including the reserve. They hold no thread."""
        return self.streams_max + self.stream_reserve

    @property
    def stream_reserve(self) -> int:
        return _eighth(self.streams_max)

    @property
    def upload_places(self) -> int:
        """Return the number of concurrent uploads, including the reserve for keys with few."""
        return self.uploads_max + self.upload_reserve

    @property
    def upload_reserve(self) -> int:
        return _eighth(self.uploads_max)


def _eighth(number: int) -> int:
    """Return the reserve of a pool for keys that hold few places: an eighth, at least one."""
    return max(1, number // 8)


#: A name as a message about several settings has it.
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")


def load_settings(origin: Callable[[str], str] = lambda _name: "") -> Settings:
    """Return the settings of this process's environment. Raises SettingsError naming every variable that is wrong.

    `origin` names the source of a variable's value, other than the environment.
    """
    try:
        return Settings()  # every field comes from the environment
    except ValidationError as e:
        lines = []
        for problem in e.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in problem["loc"]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            line = message if not name or message.startswith(name) else f"{name}: {message}"
            named = [name] if name else sorted(set(_VARIABLE.findall(message)))
            lines.append(line + "".join(origin(one) for one in named))
        raise SettingsError("; ".join(lines), lines) from e


def image_overrides() -> dict[str, str]:
    """Return each `RUNNER_IMAGE_<LANG>` of this process's environment by the language's id in lower case."""
    return {
        name.removeprefix(IMAGE_PREFIX).lower(): value
        for name, value in sorted(os.environ.items())
        if name.startswith(IMAGE_PREFIX) and value
    }


def unused_variables() -> list[str]:
    """List the variables that are set and accepted but have no effect; each is warned about once."""
    return [name for name in UNUSED if os.environ.get(name)]
