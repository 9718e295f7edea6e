"""The settings table: name, readers, secret, default, unit and sentence of each variable that the service defines.

`doctor` and the documentation are generated from it; a value that does not fit is refused at start with the
variable's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.parsers import (
    MIN_SIGNING_KEY_LENGTH,
    Network,
    RateSetting,
    parse_base_url,
    parse_dialects,
    parse_networks,
    parse_ratelimit_url,
    parse_signing_keys,
    parse_storage_url,
)
from config.variables import Secret, read_by

METRICS_TOKEN = re.compile(r"[\x21-\x7e]{8,256}")
ADMIN_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")
DEVELOPMENT_KEYS = "dev_123:dev:1000:1000"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: One variable a language: the image to run instead of the one built here.
#: Clients that may read, without a key, what is long; and the part of them for addresses that read little.
DOCUMENT_PLACES, DOCUMENT_RESERVE = 16, 2
IMAGE_PREFIX = "RUNNER_IMAGE_"
#: Accepted because users of such services set them; there is no shared host directory here.
UNUSED = ("SANDBOX_WORKDIR", "HOST_SANDBOX_DIR")


class SettingsError(ValueError):
    """The environment does not describe a service that may start; the message names each variable."""


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_unset)]
OptionalInt = Annotated[int | None, BeforeValidator(_blank_is_unset)]

#: The readers of most settings; those that hold a secret name theirs themselves.
API = read_by("api")
WORKER = read_by("worker")
API_AND_OPS = read_by("api", "ops")
API_AND_WORKER = read_by("api", "worker")
WORKER_AND_OPS = read_by("worker", "ops")
SERVICE = read_by("api", "worker", "ops")
ALL = read_by("api", "worker", "images", "ops")


class Settings(BaseSettings):
    """Everything the service can be told. Every field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        case_sensitive=False, extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    runyard_env: Annotated[Literal["development", "production"], API_AND_OPS] = Field(
        "production", description="`development` turns on the token dev_123; `make up` sets it."
    )
    bind: Annotated[str, API_AND_OPS] = Field("127.0.0.1", description="Address the API listens on.")
    port: Annotated[int, API_AND_OPS] = Field(8080, ge=1, le=65535, description="Port the API listens on.")
    allow_insecure_bind: Annotated[bool, API] = Field(
        False, description="Allow the development token or self-service keys on an address other than loopback."
    )
    api_keys: Annotated[OptionalText, read_by("api", "ops", secret=Secret.KEYS, is_list=True)] = Field(
        None,
        description="Static tokens, `token:label:rps:burst`, comma-separated, for dev_123. A label is a tenant.",
    )
    self_service_keys: Annotated[bool | None, BeforeValidator(_blank_is_unset), API] = Field(
        None,
        description="Allow anybody to create a key of the plan `free`. Default: `1` in development on loopback.",
    )
    dialects: Annotated[str, read_by("api", is_list=True)] = Field(
        "all",
        description=(
            "Wire contracts of other services to serve, comma-separated: `piston`, `runakode`, `runtools`; "
            "or `all`, or `none`."
        ),
    )
    dialect_key: Annotated[OptionalText, API] = Field(
        None,
        description=(
            "Id of the stored key (`key_…`) that is charged for requests of those services' clients without a key, "
            "where self-service is off. Default: such requests are refused."
        ),
    )
    piston_strict: Annotated[bool, API] = Field(
        False,
        description=(
            "Refuse requests of Piston's clients whose body is not said to be JSON, with 415, as Piston does; "
            "`piston-client` does not say it."
        ),
    )
    runakode_isolation: Annotated[Literal["gvisor", "container", "default"], API] = Field(
        "gvisor",
        description=(
            "`isolation` of the runs of runakode's clients; `gvisor` only where the service has it, else `default`."
        ),
    )
    keys_per_hour: Annotated[int, API] = Field(
        20, ge=1, le=100_000, description="Keys that one address may create per hour."
    )
    key_grace_s: Annotated[int, API] = Field(
        86_400, ge=0, le=31_536_000, description="Seconds for which the old secret of a rotated key stays valid."
    )
    admin_token: Annotated[OptionalText, read_by("api", secret=Secret.WHOLE)] = Field(
        None, description="Bearer token for `/v1/admin/…`. Without it those calls are disabled."
    )
    plans_file: Annotated[Path | None, API_AND_OPS] = Field(
        None,
        description=(
            "TOML file with the plans of stored keys, readable by api's account. Default: the shipped plans."
        ),
    )
    ratelimit_url: Annotated[OptionalText, read_by("api", secret=Secret.PASSWORD)] = Field(
        None,
        description="Redis or Valkey for rate limits shared by several processes, `redis://…`. Default: in memory.",
    )
    api_processes: Annotated[int, API] = Field(
        1, ge=1, le=64, description="Number of api processes; more than one needs RATELIMIT_URL."
    )
    trusted_proxies: Annotated[OptionalText, read_by("api", is_list=True)] = Field(
        None,
        description=(
            "Trusted proxies: addresses and networks, comma-separated, whose `X-Forwarded-For`, `-Proto` and "
            "`-Host` are used. Default: none."
        ),
    )
    address_rps: Annotated[float, API] = Field(
        50,
        gt=0,
        le=1_000_000,
        description="Requests per second of one address without a valid token; reads may be ten times as many.",
    )
    address_burst: Annotated[int, API] = Field(
        500, ge=1, le=1_000_000, description="Burst of such requests of one address."
    )
    public_base_url: Annotated[OptionalText, API] = Field(
        None,
        description=(
            "Public base URL used in links. Default: scheme and host of each request, by a trusted proxy's headers "
            "if it has any."
        ),
    )
    signing_key: Annotated[OptionalText, read_by("api", secret=Secret.LIST, is_list=True)] = Field(
        None,
        description=(
            "Secrets that sign links, comma-separated, the newest first, with at least 32 "
            "characters. Default: generated once and stored in STATE_DIR."
        ),
    )
    max_upload_mb: Annotated[int, API] = Field(
        50, ge=1, le=10_240, description="Maximum size of an uploaded file, in MiB."
    )
    storage_quota_mb: Annotated[int, API] = Field(
        1024, ge=1, le=1_048_576, description="Storage quota of a key in MiB, for uploads and artifacts together."
    )
    retention_hours: Annotated[float, API] = Field(
        24, gt=0, le=876_000, description="Hours for which uploads and artifacts are kept."
    )
    link_ttl_s: Annotated[int, API] = Field(
        600, ge=1, le=604_800, description="Seconds for which a signed link is valid."
    )

    state_dir: Annotated[Path, ALL] = Field(
        Path("/var/lib/runyard"), description="Directory of all data of the service."
    )
    images_dir: Annotated[Path | None, ALL] = Field(
        None, description="Directory of runner images. Default: STATE_DIR/images."
    )
    storage_dir: Annotated[Path | None, SERVICE] = Field(
        None, description="Directory of blobs; with S3, of blobs being transferred. Default: STATE_DIR/storage."
    )
    storage_url: Annotated[OptionalText, SERVICE] = Field(
        None, description="`s3://bucket/prefix` to store blobs in S3 or a compatible server."
    )
    s3_endpoint_url: Annotated[OptionalText, SERVICE] = Field(
        None, description="Address of the S3 server. Default: Amazon's."
    )
    s3_addressing: Annotated[Literal["auto", "path", "virtual"], SERVICE] = Field(
        "auto", description="Position of the bucket's name: in the path or in the host name."
    )
    s3_presign: Annotated[bool, SERVICE] = Field(False, description="Redirect downloads to S3 by presigned links.")

    engine: Annotated[Literal["auto", "oci", "docker"], WORKER_AND_OPS] = Field(
        "auto",
        description="What makes sandboxes. `auto` is `oci` where root and an OCI runtime are there, else `docker`.",
    )
    runtime: Annotated[
        Literal["crun", "runc", "runsc"] | None, BeforeValidator(_blank_is_unset), WORKER_AND_OPS
    ] = Field(
        None,
        description="OCI runtime of the engine. Default: crun, else runc, for `oci`; runc for `docker`.",
    )
    sandbox_source: Annotated[Literal["auto", "template", "pool"], WORKER] = Field(
        "auto",
        description="Where warm sandboxes come from: `pool` is a container for each; `template` forks them from a "
        "booted interpreter (engine `oci` with crun or runc); `auto` is `template` where that can be and the "
        "sandboxes are measured to be as confined, else `pool`.",
    )
    template_scope: Annotated[Literal["service", "key"], WORKER] = Field(
        "service",
        description="Whose runs share a template, and with it a memory layout and a hash seed: `service`, "
        "everybody's; `key`, those of one key (for which there is no template yet at first: it gets containers).",
    )
    template_keys: Annotated[int, WORKER] = Field(
        8, ge=1, le=1000, description="Number of keys with templates of their own, with TEMPLATE_SCOPE=key."
    )
    template_runs: Annotated[int, WORKER] = Field(
        1000, ge=1, le=1_000_000, description="Sandboxes forked from one template before it is replaced."
    )
    template_minutes: Annotated[float, WORKER] = Field(
        60, gt=0, le=10_080, description="Age in minutes at which a template is replaced."
    )
    docker_host: Annotated[str, WORKER_AND_OPS] = Field(
        "unix:///var/run/docker.sock", description="The Docker daemon's socket; it must be on this host."
    )
    docker_timeout_s: Annotated[float, WORKER] = Field(
        20, ge=1, le=300, description="Maximum time that a call to the Docker daemon may take, in seconds."
    )
    seccomp_profile: Annotated[OptionalText, WORKER_AND_OPS] = Field(
        None, description="Path of a seccomp profile to use instead."
    )
    apparmor_profile: Annotated[OptionalText, WORKER_AND_OPS] = Field(
        None, description="Name of a loaded AppArmor profile to use instead."
    )
    disable_sandbox_security: Annotated[bool, WORKER_AND_OPS] = Field(
        False,
        description="Run without seccomp, AppArmor and no-new-privileges: for debugging only, never in production.",
    )
    uid_base: Annotated[int, WORKER_AND_OPS] = Field(
        0x7000_0000,
        ge=100_000,
        le=0x7FFF_0000,
        description="First host uid of the range used by api and by the sandbox slots.",
    )

    languages: Annotated[OptionalText, read_by("worker", "ops", is_list=True)] = Field(
        None, description="Languages to offer, comma-separated. Default: all."
    )
    max_sessions: Annotated[int, API_AND_WORKER] = Field(
        32, ge=0, le=512, description="Maximum number of live sessions; 0 turns sessions off."
    )
    sessions_memory_mb: Annotated[OptionalInt, WORKER] = Field(
        None,
        ge=64,
        le=67_108_864,
        description="Memory for the limits of all live sessions, in MiB. Default: half of the memory budget.",
    )
    max_runs: Annotated[int, API_AND_WORKER] = Field(
        32, ge=1, le=1024, description="Maximum number of concurrent runs."
    )
    memory_budget_mb: Annotated[OptionalInt, WORKER] = Field(
        None,
        ge=64,
        description=(
            "Maximum sum of the memory limits of concurrent runs, in MiB. Default: 3/4 of the machine's memory."
        ),
    )
    io_read_mb_s: Annotated[int, WORKER] = Field(
        200,
        ge=0,
        le=1_000_000,
        description="Megabytes a second that one sandbox may read from the disk of its image, and a hundred reads "
        "for each of them; 0 is no limit. Needs the controller `io`, with control groups v1 `blkio`.",
    )
    queue_max: Annotated[int, API_AND_WORKER] = Field(
        64, ge=0, le=10_000, description="Maximum number of queued runs."
    )
    queue_wait_s: Annotated[float, API_AND_WORKER] = Field(
        30, gt=0, le=600, description="Maximum time in the queue, in seconds."
    )
    compile_timeout_s: Annotated[float, WORKER] = Field(
        30, ge=1, le=30, description="Maximum time that compiling a program may take, in seconds."
    )
    pool_memory_mb: Annotated[OptionalInt, WORKER] = Field(
        None,
        ge=0,
        description="Memory of the warm pool in MiB. Default: 1/16 of the machine's memory, at most 1024.",
    )
    warm_pool: Annotated[OptionalText, read_by("worker", is_list=True)] = Field(
        None, description="Warm sandboxes per language, `python=8,node=4`. Default: derived from POOL_MEMORY_MB."
    )

    gvisor_pool: Annotated[OptionalText, read_by("worker", is_list=True)] = Field(
        None,
        description="Warm sandboxes under gVisor, `python=2`, for runs that ask for it; one of each language that "
        "was asked for when unset; `off` does not offer it.",
    )

    database_url: Annotated[OptionalText, read_by("api", "ops", secret=Secret.PASSWORD)] = Field(
        None,
        description="Database of runs, keys and usage: `postgresql://…`. Default: SQLite in STATE_DIR/db.",
    )
    database_connections: Annotated[int, API] = Field(
        8, ge=1, le=256, description="Maximum number of database connections."
    )
    lease_s: Annotated[float, API] = Field(
        10,
        ge=1,
        le=600,
        description="Seconds without a heartbeat after which another service may take over the database; the same "
        "value in every service that uses this database.",
    )
    runs_retention_days: Annotated[float, API_AND_OPS] = Field(
        30, gt=0, le=36_500, description="Days for which an ended run is kept."
    )
    runs_retention_count: Annotated[int, API_AND_OPS] = Field(
        1_000_000,
        ge=1,
        le=100_000_000,
        description="Maximum number of ended runs kept, of all keys together; the oldest are deleted first.",
    )
    records_quota_mb: Annotated[int, API] = Field(
        4096,
        ge=1,
        le=16_777_216,
        description="MiB that the records of ended runs may take, of all keys together: the oldest runs of the "
        "keys that keep the most go first.",
    )
    disk_reserve_mb: Annotated[int, API] = Field(
        1024,
        ge=0,
        le=16_777_216,
        description="Free disk space in MiB, on the disks of records and files, below which new work is refused.",
    )
    api_reserve_threads: Annotated[int, API] = Field(
        16,
        ge=4,
        le=256,
        description="Threads reserved for health checks and GET, beside those that runs may occupy.",
    )
    event_readers: Annotated[int, API] = Field(
        64,
        ge=1,
        le=1024,
        description="Maximum number of clients that follow runs or read long responses at the same time.",
    )
    uploads_max: Annotated[int, API] = Field(32, ge=1, le=1024, description="Maximum number of concurrent uploads.")
    drain_s: Annotated[float, SERVICE] = Field(
        10, ge=0, le=600, description="Seconds for which a stopping worker waits for runs to finish."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], SERVICE] = Field(
        "INFO", description="Log level."
    )
    access_log: Annotated[bool, API] = Field(True, description="Log a line for every request.")
    metrics_token: Annotated[OptionalText, read_by("api", secret=Secret.WHOLE)] = Field(
        None, description="Bearer token for `/metrics`. Without it `/metrics` is public."
    )
    otel_exporter_otlp_endpoint: Annotated[OptionalText, SERVICE] = Field(
        None,
        description=(
            "OTLP/HTTP endpoint for traces, `http://collector:4318`. Default: no traces. Other "
            "`OTEL_…` variables apply as well."
        ),
    )

    @field_validator("api_keys")
    @classmethod
    def _keys_parse(cls, value: str | None) -> str | None:
        if value is not None:
            parse_api_keys(value)
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_one_of_two(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://", "sqlite:////")):
            raise ValueError("DATABASE_URL must begin with postgresql:// or, with an absolute path, sqlite:////")
        return value

    @field_validator("storage_url")
    @classmethod
    def _storage_url_parses(cls, value: str | None) -> str | None:
        if value is not None:
            parse_storage_url(value)
        return value

    @field_validator("metrics_token")
    @classmethod
    def _metrics_token_can_be_sent(cls, value: str | None) -> str | None:
        if value is not None and not METRICS_TOKEN.fullmatch(value):
            raise ValueError("METRICS_TOKEN: must be 8 to 256 visible ASCII characters")
        return value

    @field_validator("admin_token")
    @classmethod
    def _admin_token_cannot_be_guessed(cls, value: str | None) -> str | None:
        if value is not None and not ADMIN_TOKEN.fullmatch(value):
            raise ValueError("ADMIN_TOKEN: must be 16 to 256 visible ASCII characters")
        return value

    @field_validator("ratelimit_url")
    @classmethod
    def _ratelimit_url_parses(cls, value: str | None) -> str | None:
        return None if value is None else parse_ratelimit_url(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies_parse(cls, value: str | None) -> str | None:
        if value is not None:
            parse_networks(value)
        return value

    @field_validator("dialects")
    @classmethod
    def _dialects_parse(cls, value: str) -> str:
        parse_dialects(value)
        return value

    @field_validator("dialect_key")
    @classmethod
    def _dialect_key_is_an_id(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("key_"):
            raise ValueError("DIALECT_KEY: is the id of a key, `key_…`, as `make keys` lists it; not its secret")
        return value

    @field_validator("public_base_url", "s3_endpoint_url", "otel_exporter_otlp_endpoint")
    @classmethod
    def _base_url_parses(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else parse_base_url(str(info.field_name).upper(), value)

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

    @property
    def compile_timeout_ms(self) -> int:
        """Return the maximum time that compiling may take, in milliseconds."""
        return round(self.compile_timeout_s * 1000)

    @property
    def lease_ms(self) -> int:
        """Return how long a lease on the database is alive after its last heartbeat, in milliseconds."""
        return round(self.lease_s * 1000)

    def keys(self) -> tuple[ApiKey, ...]:
        """The static tokens in force."""
        if self.api_keys is not None:
            return parse_api_keys(self.api_keys)
        return parse_api_keys(DEVELOPMENT_KEYS) if self.runyard_env == "development" else ()

    @property
    def self_service(self) -> bool:
        """Whether anybody may make a key."""
        if self.self_service_keys is not None:
            return self.self_service_keys
        return self.runyard_env == "development" and (self.bind in LOOPBACK or self.allow_insecure_bind)

    def dialect_names(self) -> frozenset[str]:
        """The dialects that are served."""
        return parse_dialects(self.dialects)

    def trusted(self) -> tuple[Network, ...]:
        """The proxies that are believed."""
        return () if self.trusted_proxies is None else parse_networks(self.trusted_proxies)

    def signing_keys(self) -> tuple[str, ...]:
        """What `SIGNING_KEY` holds, the newest first; nothing when it is unset."""
        if self.signing_key is None:
            return ()
        least = 1 if self.runyard_env == "development" else MIN_SIGNING_KEY_LENGTH
        return parse_signing_keys(self.signing_key, min_length=least)

    @property
    def base_url(self) -> str:
        """What links begin with, without a slash at the end."""
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
    def bucket(self) -> RateSetting | None:
        """Where blobs are when they are in S3."""
        return None if self.storage_url is None else parse_storage_url(self.storage_url)

    @property
    def api_home(self) -> Path:
        """What api keeps for itself; no other account may look into it."""
        return self.state_dir / "api"

    @property
    def images(self) -> Path:
        return self.images_dir or self.state_dir / "images"

    @property
    def run_dir(self) -> Path:
        """Sockets and process files of the running service."""
        return self.state_dir / "run"

    @property
    def database(self) -> str:
        """The URL of the database in force."""
        return self.database_url or f"sqlite:///{self.state_dir.absolute()}/db/runyard.sqlite"

    @property
    def database_file(self) -> Path:
        """The file of an SQLite database."""
        return Path(self.database.removeprefix("sqlite:///"))

    @property
    def worker_socket(self) -> Path:
        return self.run_dir / "worker.sock"

    @property
    def api_uid(self) -> int:
        """The unprivileged uid and gid of the api process."""
        return self.uid_base

    @property
    def api_threads(self) -> int:
        """As many as there are places in the pools, and a reserve: full pools must not silence health.

        Threads are made when they are first needed.
        """
        places = self.waiting_places + self.reading_places + self.upload_places + DOCUMENT_PLACES
        return places + self.api_reserve_threads // 2

    @property
    def waiting_places(self) -> int:
        """Runs that may be waited for, with some room: the worker says when its queue is full."""
        return self.waiting_reserve + self.queue_max + self.max_runs + self.api_reserve_threads // 2

    @property
    def waiting_reserve(self) -> int:
        """The part of them for keys that hold little, which is enough when one key holds all the rest."""
        return self.queue_max + self.max_runs

    @property
    def reading_places(self) -> int:
        """Clients that may follow runs or read long answers, with the part for those who hold little."""
        return self.event_readers + self.reading_reserve

    @property
    def reading_reserve(self) -> int:
        return _eighth(self.event_readers)

    @property
    def upload_places(self) -> int:
        """Files that may be brought at the same time, with the part for those who bring few."""
        return self.uploads_max + self.upload_reserve

    @property
    def upload_reserve(self) -> int:
        return _eighth(self.uploads_max)


def _eighth(number: int) -> int:
    """Return what is kept beside so many places for those who hold little: an eighth, and one at least."""
    return max(1, number // 8)


class ApiKey:
    """A static token of `API_KEYS`: its label and its bucket (requests per second, burst).

    `is_labelled` is False where the entry has no label; `label` is then a name made of the entry's number.
    """

    __slots__ = ("burst", "is_labelled", "label", "number", "rps", "token")

    def __init__(
        self, token: str, label: str, rps: float, burst: int, *, is_labelled: bool = True, number: int = 0
    ) -> None:
        self.token = token
        self.label = label
        self.rps = rps
        self.burst = burst
        self.is_labelled = is_labelled
        self.number = number

    def __repr__(self) -> str:
        return f"ApiKey(label={self.label!r})"


_TOKEN = re.compile(r"[\x21-\x2b\x2d-\x39\x3b-\x7e]{1,256}")
_LABEL = re.compile(r"(?! )[A-Za-z0-9_.@ -]{1,64}(?<! )")
_FIELDS = ("token", "label", "rps", "burst")
_DEFAULT_RATE = "1000"


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Parse `token:label:rps:burst`, comma-separated; rate and burst may be left out (1000 each).

    Entries with one label are one tenant and have one rate: an entry without a rate has that of the others.
    Raises ValueError naming the entry by number, never by its token.
    """
    entries = [
        _split(number, entry) for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1)
    ]
    rates: dict[tuple[str, str], tuple[int, str]] = {}
    for number, (_, label, *given) in enumerate(entries, start=1):
        for name, value in zip(_FIELDS[2:], given, strict=True):
            if not (label and value):
                continue
            first, agreed = rates.setdefault((label, name), (number, value))
            if value != agreed:
                raise ValueError(
                    f"API_KEYS: entries {first} and {number} have one label and a different {name}: "
                    "one label is one tenant, give both the same"
                )
    keys: list[ApiKey] = []
    for number, (token, label, *given) in enumerate(entries, start=1):
        rps, burst = (
            value or rates.get((label, name), (0, _DEFAULT_RATE))[1]
            for name, value in zip(_FIELDS[2:], given, strict=True)
        )
        keys.append(_api_key(number, token, label, rps, burst))
    if len({key.token for key in keys}) != len(keys):
        raise ValueError("API_KEYS: the same token is given twice")
    if not keys:
        raise ValueError("API_KEYS: is set but holds no token")
    return tuple(keys)


def _split(number: int, entry: str) -> list[str]:
    parts = entry.split(":")
    if len(parts) > len(_FIELDS):
        raise ValueError(f"API_KEYS: entry {number}: more than {':'.join(_FIELDS)}")
    return parts + [""] * (len(_FIELDS) - len(parts))


def _api_key(number: int, token: str, label: str, rps: str, burst: str) -> ApiKey:
    where = f"API_KEYS: entry {number}"
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"{where}: the token must be 1 to 256 visible ASCII characters")
    if not _LABEL.fullmatch(label or "key"):
        raise ValueError(
            f"{where}: the label must be 1 to 64 of A-Z a-z 0-9 _ . @ - and spaces, with no space at either end"
        )
    try:
        rate, size = float(rps), int(burst)
    except ValueError as e:
        raise ValueError(f"{where}: rps must be a number and burst an integer") from e
    if not (0 < rate <= 1e6 and 1 <= size <= 1_000_000):
        raise ValueError(f"{where}: rps must be above 0 and burst at least 1, both at most 1000000")
    return ApiKey(token, label or f"key{number}", rate, size, is_labelled=bool(label), number=number)


#: A name as a message about several settings has it.
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")


def load_settings(origin: Callable[[str], str] = lambda _name: "") -> Settings:
    """Return the settings of this process's environment. Raises SettingsError naming every variable that is wrong.

    `origin` returns words that say where a variable's value comes from, beside the environment.
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
        raise SettingsError("; ".join(lines)) from e


def image_overrides() -> dict[str, str]:
    """`RUNNER_IMAGE_<LANG>` of this process's environment, by the language's id in lower case."""
    return {
        name.removeprefix(IMAGE_PREFIX).lower(): value
        for name, value in sorted(os.environ.items())
        if name.startswith(IMAGE_PREFIX) and value
    }


def unused_variables() -> list[str]:
    """Variables that are set, accepted and without effect: each is warned about once."""
    return [name for name in UNUSED if os.environ.get(name)]
