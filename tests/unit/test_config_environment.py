"""The facts of every variable: the processes that are given it, and the secrets that nobody may see."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from limits.errors import StorageError

from api.ratelimit.bucket import Bucket
from api.ratelimit.redis import RedisTokenBuckets
from api.ratelimit.strategy import TokenBucketRateLimiter
from config.environment import SETTINGS, environment_of, is_secret, secrets_in, without_settings_of_others
from config.logging import Formatter
from config.settings import Settings, SettingsError, load_settings
from config.variables import MASK, MIN_SECRET_LENGTH, OTHERS, Secret, find_other, mask, secret_parts
from ops import doctor, programs
from ops.images.errors import BuildFailed
from ops.images.run import run
from records import migrate, open_records
from records.errors import RecordsUnavailable

REPO = Path(__file__).resolve().parents[2]
#: Values that let all settings be given at once; of the others the default is given.
GIVEN = {
    "ALLOW_INSECURE_BIND": "1",
    "ADMIN_TOKEN": "admin-token-0123456",
    "AMQP_URL": "amqps://u:password@127.0.0.1:1/v",
    "API_KEYS": "some-token:a:1:1",
    "DATABASE_URL": "postgresql://u:password@127.0.0.1:1/db",
    "DIALECTS": "piston",
    "DIALECT_KEY": "key_0",
    "GVISOR_POOL": "off",
    "LANGUAGES": "python",
    "METRICS_TOKEN": "metrics-token",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "PUBLIC_BASE_URL": "http://127.0.0.1",
    "RATELIMIT_URL": "redis://127.0.0.1:1",
    "RUNTIME": "crun",
    "S3_ENDPOINT_URL": "http://127.0.0.1:1",
    "SELF_SERVICE_KEYS": "0",
    "SIGNING_KEY": "k" * 48,
    "STORAGE_URL": "s3://blobs",
    "TRUSTED_PROXIES": "127.0.0.1",
    "WARM_POOL": "python=1",
}
#: Packages whose code runs in each process.
PACKAGES = {"api": ("api", "records", "dispatch", "transport"), "worker": ("worker", "sandbox", "transport")}
SECRET_SETTINGS = sorted(name for name in SETTINGS if is_secret(name))
SECRET_OTHERS = {
    "AWS_SECRET_ACCESS_KEY": Secret.WHOLE,
    "AWS_SESSION_TOKEN": Secret.WHOLE,
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": Secret.WHOLE,
    "OTEL_EXPORTER_OTLP_HEADERS": Secret.HEADERS,
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": Secret.HEADERS,
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": Secret.PASSWORD,
    "RUNNER_API_KEY": Secret.WHOLE,
    "RUNNER_REDIS_URL": Secret.PASSWORD,
    "DEBIAN_MIRROR": Secret.PASSWORD,
    "NPM_CONFIG__AUTH": Secret.WHOLE,
    "npm_config_//registry/:_authToken": Secret.WHOLE,
    "npm_config_//registry/:_password": Secret.WHOLE,
    "NPM_CONFIG_REGISTRY": Secret.PASSWORD,
    "PIP_EXTRA_INDEX_URL": Secret.PASSWORD,
    "all_proxy": Secret.PASSWORD,
    "ftp_proxy": Secret.PASSWORD,
    "http_proxy": Secret.PASSWORD,
    "HTTPS_PROXY": Secret.PASSWORD,
}
SCHEMES = {"AMQP_URL": "amqp", "DATABASE_URL": "postgresql", "RATELIMIT_URL": "redis"}


@pytest.fixture
def environ(monkeypatch, tmp_path):
    """Give this process no variable that the service reads but a state directory."""
    for name in list(os.environ):
        if name.upper() in SETTINGS or find_other(name) is not None:
            monkeypatch.delenv(name)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    return monkeypatch


def needles(name):
    """Return two secrets that are a variable's own."""
    word = re.sub(r"\W", "-", name.lower())
    return f"n33dle-{word}-{'x' * 20}", f"n33dle-{word}-{'y' * 20}"


def value_of(name, secret):
    """Return a value that holds both, where it can hold two."""
    first, second = needles(name)
    return {
        Secret.WHOLE: first,
        Secret.LIST: f"{first}, {second}",
        Secret.KEYS: f"{first}:a:5:5,{second}",
        Secret.PASSWORD: f"{SCHEMES.get(name, 'https')}://user:{first}@127.0.0.1:1/0",
        Secret.HEADERS: f"authorization=Basic%20{first}, x={second}",
    }[secret]


@pytest.fixture
def given_secrets(environ):
    """Put secrets of its own into each variable that can hold one."""
    values = {name: value_of(name, SETTINGS[name].secret) for name in SECRET_SETTINGS}
    values |= {name: value_of(name, secret) for name, secret in SECRET_OTHERS.items()}
    for name, value in values.items():
        environ.setenv(name, value)
    return values


class Lines(logging.Handler):
    """Keep the lines that the service would write."""

    def __init__(self):
        super().__init__()
        self.setFormatter(Formatter("test", secrets_in(os.environ)))
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def lines():
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(level)


def test_every_setting_has_readers():
    assert set(SETTINGS) == {name.upper() for name in Settings.model_fields}
    assert all(facts.readers for facts in [*SETTINGS.values(), *OTHERS.values()])


def test_the_secret_settings():
    assert SECRET_SETTINGS == [
        "ADMIN_TOKEN",
        "AMQP_URL",
        "API_KEYS",
        "CARGO_INDEX",
        "DATABASE_URL",
        "GOPROXY",
        "METRICS_TOKEN",
        "NPM_URL",
        "PYPI_URL",
        "RATELIMIT_URL",
        "SIGNING_KEY",
    ]
    assert {find_other(name).secret for name in SECRET_OTHERS} == set(SECRET_OTHERS.values())
    assert all(find_other(name).secret is secret for name, secret in SECRET_OTHERS.items())
    tried = {next(p for p, facts in OTHERS.items() if facts is find_other(name)) for name in SECRET_OTHERS}
    assert tried == {pattern for pattern, facts in OTHERS.items() if facts.secret is not Secret.NONE}
    both = {name for name in SECRET_SETTINGS if {"api", "worker"} <= SETTINGS[name].readers}
    assert both == {"AMQP_URL"}  # on two machines each has an account of its own


def fields_of(attribute):
    """Return the settings that an attribute of Settings is made of."""
    if attribute in Settings.model_fields:
        return {attribute.upper()}
    found = inspect.getattr_static(Settings, attribute, None)
    code = getattr(found, "fget", found)
    if not inspect.isfunction(code):
        return set()
    return set().union(*(fields_of(name) for name in re.findall(r"\bself\.(\w+)", inspect.getsource(code))))


@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_process_is_a_reader_of_each_setting_that_its_code_names(process):
    named = set()
    for path in (path for package in PACKAGES[process] for path in (REPO / package).rglob("*.py")):
        for attribute in re.findall(r"settings\.(\w+)", path.read_text()):
            named |= fields_of(attribute)
    assert len(named) > 20
    assert {name for name in named if process not in SETTINGS[name].readers} == set()


def test_each_process_is_given_exactly_the_variables_that_it_reads(environ):
    given = {
        name.upper(): str(int(field.default)) if isinstance(field.default, bool) else str(field.default)
        for name, field in Settings.model_fields.items()
        if field.default is not None
    }
    given |= {name: f"/{name}" for name in SETTINGS if name not in given} | GIVEN
    given |= {
        "MEMORY_BUDGET_MB": "64",
        "POOL_MEMORY_MB": "64",
        "SESSIONS_MEMORY_MB": "64",
        "RUNAKODE_CPUS": "1",
        **dict.fromkeys(("RUNAKODE_TIMEOUT_MS", "RUNAKODE_MEMORY_MB", "RUNAKODE_OUTPUT_BYTES"), "64"),
        "EGRESS_ALLOW": "*.example.org",
        "EGRESS_PRIVATE": "10.0.0.0/8",
        "EGRESS_DENY": "192.0.2.0/24",
        "PACKAGES": "any",
        **dict.fromkeys(("PYPI_URL", "NPM_URL", "GOPROXY", "CARGO_INDEX"), "https://registry.test/"),
        "STATE_DIR": os.environ["STATE_DIR"],
    }
    others = {pattern.replace("*", "X").replace("[_:]", "_"): facts for pattern, facts in OTHERS.items()}
    for name, value in (given | dict.fromkeys([*others, "LD_PRELOAD", "EDITOR"], "x")).items():
        environ.setenv(name, value)
    settings = Settings()
    fixed = {"PATH", "LANG", "HOME", "STATE_DIR"}
    allocator = {*programs.ALLOCATOR}
    own = {"api": {"PROMETHEUS_MULTIPROC_DIR"} | allocator, "worker": allocator, "egress": allocator}
    makers = {"api": programs.api, "worker": programs.worker, "egress": programs.egress, "images": programs.builder}
    for reader, make in makers.items():
        wanted = {name for name, facts in {**SETTINGS, **others}.items() if reader in facts.readers}
        assert set(make(settings).env) == wanted | fixed | own.get(reader, {"RUNYARD_LOG"})


def test_what_needs_a_setting_is_given_only_with_it(environ):
    environ.setenv("AWS_REGION", "x")
    environ.setenv("OTEL_SERVICE_NAME", "x")
    assert environment_of("api", Settings(), os.environ).keys() == {"STATE_DIR"}
    environ.setenv("STORAGE_URL", "s3://blobs")
    assert environment_of("api", Settings(), os.environ).keys() == {"STATE_DIR", "STORAGE_URL", "AWS_REGION"}


def test_a_container_keeps_its_environment_but_for_settings_of_others():
    environ = {"api_keys": "a:b", "MAX_RUNS": "1", "EDITOR": "vi", "HTTPS_PROXY": "http://proxy"}
    assert without_settings_of_others("worker", environ).keys() == {"MAX_RUNS", "EDITOR", "HTTPS_PROXY"}
    assert without_settings_of_others("api", environ) == environ


@pytest.mark.parametrize(
    ("secret", "value", "found"),
    [
        (Secret.NONE, "a-value", set()),
        (Secret.WHOLE, "a,b:c\n", {"a,b:c\n", "a,b:c"}),
        (Secret.LIST, "new-key, old-key,", {"new-key", "old-key"}),
        (Secret.KEYS, "tok-1:alice:5:5, tok-2", {"tok-1", "tok-2"}),
        (Secret.PASSWORD, "postgresql://host/db", set()),
        (Secret.PASSWORD, "sqlite:////srv/a@b:c@d", set()),
        (Secret.PASSWORD, "redis://:pass@host:1/0", {"pass"}),
        (Secret.PASSWORD, "postgresql://u:p%2fq@h/db", {"p%2fq", "p/q", "p%2Fq"}),
        (Secret.PASSWORD, "postgresql://u:abc/def@h/db", {"abc/def", "abc%2Fdef"}),
        (Secret.PASSWORD, "https://a:first@x/ https://b:second@y/", {"first", "second"}),
        (Secret.PASSWORD, "postgresql://h/db?sslmode=require&password=pass&x=1", {"pass"}),
        (Secret.HEADERS, "a=Bearer%20abc=, b=def", {"Bearer%20abc=", "Bearer abc=", "abc=", "def"}),
    ],
)
def test_the_secrets_in_a_value(secret, value, found):
    assert secret_parts(secret, value) >= found
    assert bool(secret_parts(secret, value)) == bool(found)


def test_a_password_with_an_at_sign_is_found_whole_and_in_the_parts_that_errors_show():
    assert {"pass@word", "pass", "word"} <= secret_parts(Secret.PASSWORD, "postgresql://u:pass@word@host/db")


def test_short_secrets_are_not_masked():
    short, long = "x" * (MIN_SECRET_LENGTH - 1), "y" * MIN_SECRET_LENGTH
    assert mask(f"{short} {long}", frozenset({short, long})) == f"{short} {MASK}"


def test_no_line_of_the_log_holds_a_secret(given_secrets, lines):
    log = logging.getLogger("x")
    for name, value in given_secrets.items():
        log.info("%s=%s", name, value, extra={"deep": [{"value": value}], "encoded": quote(value, safe="")})
        for needle in needles(name):
            log.info("%s", needle if needle in value else "nothing")
        try:
            int(value)
        except ValueError:
            log.exception("failed")
    assert len(lines) == 4 * len(given_secrets)
    assert "n33dle" not in "".join(lines)
    assert "postgresql://user:***@127.0.0.1:1/0" in "".join(lines)


@pytest.mark.parametrize("password", ["n33dle-1", "n33%64le-1", "p@n33dle-1", "x%2Fn33dle", "a:n33dle"])
def test_a_connection_that_fails_shows_no_password(environ, request, password):
    environ.setenv("DATABASE_URL", f"postgresql://user:{password}@127.0.0.1:1/db")
    environ.setenv("RATELIMIT_URL", f"redis://user:{password}@127.0.0.1:1/0")
    lines, settings = request.getfixturevalue("lines"), load_settings()
    buckets = TokenBucketRateLimiter(RedisTokenBuckets(settings.ratelimit_url))
    attempts = [
        (RecordsUnavailable, lambda: migrate(settings.database)),
        (RecordsUnavailable, lambda: open_records(settings.database, connections=1, wait_s=0.1).runs.get("r", "k")),
        (StorageError, lambda: buckets.hit(Bucket(1, 1), "name")),
    ]
    for kind, attempt in attempts:
        with pytest.raises(kind) as caught:
            attempt()
        logging.getLogger("x").error("failed", exc_info=caught.value)
    assert sum("Traceback" in line for line in lines) == len(attempts)
    assert "n33dle" not in "".join(lines)


@pytest.mark.parametrize("name", SECRET_SETTINGS)
def test_a_settings_error_shows_no_secret(name, given_secrets, environ):
    wrong = {
        "ADMIN_TOKEN": "n33dle with spaces in it",
        "AMQP_URL": "amqp://user:n33dle@host:n33dle/0",
        "API_KEYS": "a:a:1:1,n33dle:n33dle:n33dle:n33dle",
        "DATABASE_URL": "mysql://user:n33dle@host/db",
        "CARGO_INDEX": "sparse+ftp://user:n33dle@host/",
        "GOPROXY": "https://proxy.test,n33dle",
        "METRICS_TOKEN": "n33dle with spaces",
        "NPM_URL": "https://user:n33dle@host:n33dle/",
        "PYPI_URL": "user:n33dle@host",
        "RATELIMIT_URL": "redis://user:n33dle@host:n33dle/0",
        "SIGNING_KEY": "n33dle",
    }
    environ.setenv(name, wrong[name])
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert name in str(caught.value)
    assert "n33dle" not in "".join(traceback.format_exception(caught.value))


def test_doctor_shows_no_secret(given_secrets, environ, capsys):
    assert doctor._show_settings(dict.fromkeys(given_secrets, "set"), [])
    shown = capsys.readouterr().out
    assert "n33dle" not in shown
    assert (
        sum(line.split()[:3] == [name, "set", MASK] for name in SECRET_SETTINGS for line in shown.splitlines())
        == 11
    )
    environ.setenv("MAX_RUNS", "none")
    assert not doctor._show_settings(dict.fromkeys(given_secrets, "set"), [])
    assert "n33dle" not in capsys.readouterr().out


def test_a_failed_build_shows_no_password(given_secrets):
    text = json.dumps({name: value for name, value in given_secrets.items() if name not in SETTINGS})
    with pytest.raises(BuildFailed) as caught:
        run(["sh", "-c", 'echo "$1"; exit 1', "sh", text], env=dict(os.environ), what="base")
    assert "https://user:***@127.0.0.1:1/0" in str(caught.value)
    assert "n33dle" not in str(caught.value)
