"""The settings table: name, readers, secret, default, unit and sentence of each variable that the service defines.

`doctor` and the documentation are generated from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.variables import Secret, read_by


def _blank_is_unset(value: object) -> object:
    return None if value == "" else value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_unset)]
OptionalInt = Annotated[int | None, BeforeValidator(_blank_is_unset)]

#: The packages that runs may ask for.
PackageMode = Literal["off", "approved", "any"]

#: The readers of most settings; those that hold a secret name theirs themselves.
API = read_by("api")
WORKER = read_by("worker")
API_AND_OPS = read_by("api", "ops")
API_AND_WORKER = read_by("api", "worker")
WORKER_AND_OPS = read_by("worker", "ops")
SERVICE = read_by("api", "worker", "ops")
ALL = read_by("api", "worker", "images", "ops")
EVERY = read_by("api", "worker", "images", "ops", "egress")
EGRESS = read_by("egress")
LOGGING = read_by("api", "worker", "ops", "egress")


class SettingTable(BaseSettings):
    """All settings of the service. Every field is the environment variable of the same name."""

    model_config = SettingsConfigDict(
        case_sensitive=False, extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    runyard_env: Annotated[Literal["development", "production"], read_by("api", "worker", "ops", "egress")] = Field(
        "production", description="`development` turns on the token dev_123; `make up` sets it."
    )
    role: Annotated[Literal["all", "api", "worker"], SERVICE] = Field(
        "all",
        description="Parts of the service on this machine. `api` and `worker` are for several machines; "
        "docs/operations.md has what they share.",
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
            "Wire contracts of other services to serve, comma-separated: `piston`, `runakode`, `runtools`, "
            "`agent-coderunner`, `tinirun`; or `all`, or `none`."
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
            "Reject requests of Piston's clients without a JSON Content-Type, with 415, as Piston does; "
            "`piston-client` does not send one."
        ),
    )
    runakode_isolation: Annotated[Literal["gvisor", "container", "default"], API] = Field(
        "gvisor",
        description=(
            "`isolation` of the runs of runakode's clients; `gvisor` only where the service has it, else `default`."
        ),
    )
    runakode_timeout_ms: Annotated[OptionalInt, API] = Field(
        None,
        ge=1,
        le=60_000,
        description="Time limit of the runs of runakode's clients, in milliseconds. Default: that of `/v1/runs`.",
    )
    runakode_memory_mb: Annotated[OptionalInt, API] = Field(
        None, ge=16, le=2_048, description="Memory limit of these runs in MiB. Default: that of `/v1/runs`."
    )
    runakode_cpus: Annotated[float | None, BeforeValidator(_blank_is_unset), API] = Field(
        None, ge=0.1, le=2.0, description="Processors of these runs. Default: those of `/v1/runs`."
    )
    runakode_output_bytes: Annotated[OptionalInt, API] = Field(
        None,
        ge=1,
        le=8_388_608,
        description="Bytes kept of each output stream of these runs. Default: those of `/v1/runs`.",
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

    state_dir: Annotated[Path, EVERY] = Field(
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
        description="Engine of sandboxes. `auto` is `oci` if root and an OCI runtime are available, else `docker`.",
    )
    runtime: Annotated[
        Literal["crun", "runc", "runsc"] | None, BeforeValidator(_blank_is_unset), WORKER_AND_OPS
    ] = Field(
        None,
        description="OCI runtime of the engine. Default: crun, else runc, for `oci`; runc for `docker`.",
    )
    sandbox_source: Annotated[Literal["auto", "template", "pool"], WORKER] = Field(
        "auto",
        description="Source of warm sandboxes: `pool` is a container for each; `template` forks them from a "
        "booted interpreter (engine `oci` with crun or runc); `auto` is `template` where this is possible and the "
        "sandboxes are measured to be as confined, else `pool`.",
    )
    template_scope: Annotated[Literal["service", "key"], WORKER] = Field(
        "service",
        description="Runs that share a template, and with it a memory layout and a hash seed: `service`, all; "
        "`key`, those of one key (its first runs get containers, until its template is booted).",
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
    kernel_template_hours: Annotated[float, WORKER] = Field(
        24,
        gt=0,
        le=168,
        description="Age in hours at which a template of sessions is replaced; at most three of them are alive.",
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
        512, ge=0, le=512, description="Maximum number of live sessions; 0 turns sessions off."
    )
    sessions_memory_mb: Annotated[OptionalInt, WORKER] = Field(
        None,
        ge=64,
        le=67_108_864,
        description=(
            "Memory that all live sessions are charged for together, in MiB. Default: half of the memory budget."
        ),
    )
    process_output_mb: Annotated[int, WORKER] = Field(
        256,
        ge=1,
        le=65_536,
        description="Output that is kept of the processes of all sessions, in MiB.",
    )
    session_timeout_max_ms: Annotated[int, API] = Field(
        3_600_000, ge=1000, le=86_400_000, description="The longest that a run in a session may take."
    )
    max_functions: Annotated[int, API] = Field(
        100, ge=0, le=10_000, description="Maximum number of functions of a key; 0 turns functions off."
    )
    functions_quota_mb: Annotated[int, API] = Field(
        256, ge=1, le=1_048_576, description="MiB that the versions of all functions of a key may take together."
    )
    function_versions: Annotated[int, API] = Field(
        10,
        ge=1,
        le=1000,
        description="Versions of a function that are kept: the newest, and the newest one that is ready.",
    )
    cleanup_interval_s: Annotated[float, API_AND_WORKER] = Field(
        300,
        ge=1,
        le=86_400,
        description="Seconds between the removals of old versions of functions, and of layers that are too many.",
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
    warm_layers: Annotated[int, WORKER] = Field(
        8,
        ge=0,
        le=256,
        description="Layers of packages of which a sandbox waits: those that runs asked for last. 0 is none.",
    )

    gvisor_pool: Annotated[OptionalText, read_by("worker", is_list=True)] = Field(
        None,
        description="Warm sandboxes under gVisor, `python=2`, for runs that ask for it; one of each language that "
        "was asked for when unset; `off` does not offer it.",
    )

    egress: Annotated[Literal["off", "on"], read_by("api", "worker", "egress", "ops")] = Field(
        "off", description="`on` starts the egress process, which connects to the hosts that a run may reach."
    )
    egress_allow: Annotated[OptionalText, read_by("api", is_list=True)] = Field(
        None,
        description=(
            "Patterns of the hosts that runs may ask for, comma-separated: `*`, `*.example.org`, "
            "`api.example.com:8443`. Default: none."
        ),
    )
    egress_private: Annotated[OptionalText, read_by("egress", "ops", is_list=True)] = Field(
        None,
        description="Networks that may be reached although they are private, comma-separated. Default: none.",
    )
    egress_deny: Annotated[OptionalText, read_by("egress", "ops", is_list=True)] = Field(
        None, description="Networks that may not be reached although they are public, comma-separated."
    )
    egress_connections: Annotated[int, EGRESS] = Field(
        512, ge=1, le=16_384, description="Connections of all runs at a time; one key may hold half of them."
    )
    layers_max_mb: Annotated[int, WORKER_AND_OPS] = Field(
        4_096,
        ge=16,
        le=10_485_760,
        description=(
            "Disk that layers of packages may use, in MiB, and the same in S3; one key may use a quarter of it. "
            "The least recently used are removed first."
        ),
    )
    layers_host_dir: Annotated[Path | None, BeforeValidator(_blank_is_unset), WORKER] = Field(
        None,
        description="Path of STATE_DIR/layers for a Docker daemon that has it elsewhere, as in compose.",
    )
    pypi_url: Annotated[OptionalText, read_by("worker", secret=Secret.PASSWORD)] = Field(
        None,
        description="Index of the packages of `python`. Default: as pip on this host is configured, else pip's.",
    )
    npm_url: Annotated[OptionalText, read_by("worker", secret=Secret.PASSWORD)] = Field(
        None,
        description=(
            "Registry of the packages of `node`, `typescript` and `bun`. Default: as npm on this host is "
            "configured, else npm's."
        ),
    )
    goproxy: Annotated[OptionalText, read_by("worker", secret=Secret.PASSWORD)] = Field(
        None,
        description="Proxy of the modules of `go`. Default: as Go on this host is configured, else Go's.",
    )
    cargo_index: Annotated[OptionalText, read_by("worker", secret=Secret.PASSWORD)] = Field(
        None,
        description="Index of the crates of `rust`. Default: as cargo on this host is configured, else cargo's.",
    )
    packages: Annotated[PackageMode | None, BeforeValidator(_blank_is_unset), SERVICE] = Field(
        None,
        description=(
            "Packages that runs may ask for: `off` for none, `approved` for those of PACKAGES_FILE, or `any`. "
            "Default: `any` in development, else `off`."
        ),
    )
    packages_file: Annotated[Path | None, API_AND_OPS] = Field(
        None,
        description="TOML file with patterns of permitted packages by ecosystem, readable by api's account.",
    )
    packages_timeout_s: Annotated[float, API_AND_WORKER] = Field(
        180, ge=1, le=3600, description="Seconds in which the packages of a run must be ready."
    )
    database_url: Annotated[OptionalText, read_by("api", "ops", secret=Secret.PASSWORD)] = Field(
        None,
        description="Database of runs, keys and usage: `postgresql://…`. Default: SQLite in STATE_DIR/db.",
    )
    amqp_url: Annotated[OptionalText, read_by("api", "worker", "ops", secret=Secret.PASSWORD)] = Field(
        None,
        description="RabbitMQ between api and workers on several machines, "
        "`amqp://user:password@host,host/vhost` or `amqps://…`. Default: one machine, a Unix socket.",
    )
    amqp_queue: Annotated[str, SERVICE] = Field(
        "runner_jobs",
        description="Name of the queue of jobs at RabbitMQ, with which the names of all its other queues begin.",
    )
    amqp_ca_file: Annotated[Path | None, BeforeValidator(_blank_is_unset), SERVICE] = Field(
        None, description="PEM file of the authorities that sign RabbitMQ's certificate. Default: the machine's."
    )
    amqp_cert_file: Annotated[Path | None, BeforeValidator(_blank_is_unset), SERVICE] = Field(
        None, description="PEM file of the certificate that is presented to RabbitMQ; needs AMQP_KEY_FILE."
    )
    amqp_key_file: Annotated[Path | None, BeforeValidator(_blank_is_unset), SERVICE] = Field(
        None, description="PEM file of that certificate's private key, readable by api's account."
    )
    database_connections: Annotated[int, API] = Field(
        8, ge=1, le=256, description="Maximum number of database connections."
    )
    lease_s: Annotated[float, API] = Field(
        10,
        ge=1,
        le=600,
        description="Seconds without a heartbeat after which another service may take over the database, or the "
        "runs of this one; the same value in every service that uses this database.",
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
        description="Threads reserved for health checks and GET, in addition to those that runs may occupy.",
    )
    event_readers: Annotated[int, API] = Field(
        64,
        ge=1,
        le=1024,
        description="Maximum number of clients that read long responses at the same time.",
    )
    streams_max: Annotated[int, API] = Field(
        1024,
        ge=1,
        le=16_384,
        description="Maximum number of clients that follow events or wait for a process at the same time.",
    )
    uploads_max: Annotated[int, API] = Field(32, ge=1, le=1024, description="Maximum number of concurrent uploads.")
    drain_s: Annotated[float, SERVICE] = Field(
        10, ge=0, le=600, description="Seconds for which a stopping worker waits for runs to finish."
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], LOGGING] = Field(
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
