"""A real api with a secret in each setting: none of them comes out, in its log or in any answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from config.environment import SETTINGS, is_secret
from config.other_names import OTHER_NAMES
from tests.support.apiprocess import Api
from tests.support.service import REPO
from tests.support.workers import until

#: Each holds `n33dle`; nothing listens on port 1.
SECRETS = {
    "ADMIN_TOKEN": "n33dle-admin-token",
    "AMQP_URL": "amqp://user:n33dle%2Famqp@127.0.0.1:1/v",
    "CARGO_INDEX": "sparse+http://user:n33dle-cargo@127.0.0.1:1/",
    "GOPROXY": "http://user:n33dle-go@127.0.0.1:1",
    "NPM_URL": "http://user:n33dle-npm@127.0.0.1:1/",
    "PYPI_URL": "http://user:n33dle-pypi@127.0.0.1:1/simple",
    "API_KEYS": "n33dle-token-1:a:100:100,n33dle-token-2:b:100:100",
    "DATABASE_URL": "postgresql://user:n33dle%2Fdatabase@127.0.0.1:1/db",
    "METRICS_TOKEN": "n33dle-metrics-token",
    "RATELIMIT_URL": "redis://user:n33dle%2Fratelimit@127.0.0.1:1/0",
    "SIGNING_KEY": f"n33dle-{'a' * 32},n33dle-{'b' * 32}",
}
#: The same by the names that another service has for them.
BY_OTHER_NAMES = {
    "RUNNER_API_KEY": "n33dle-runner-key",
    "RUNNER_REDIS_URL": "redis://user:n33dle%2Frunner@127.0.0.1:1/0",
}
OF_LIBRARIES = {
    "AWS_SECRET_ACCESS_KEY": "n33dle-aws",
    "AWS_SESSION_TOKEN": "n33dle-session",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20n33dle-headers",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "LOG_LEVEL": "DEBUG",
}

PATHS = ("/v1/runs", "/v1/runs/run_x", "/v1/admin/keys", "/metrics", "/v1/files/x/content?token=x", "/nowhere")


@pytest.fixture
def start(request):
    def one(**settings):
        api = Api({**SECRETS, **OF_LIBRARIES, **settings})
        request.addfinalizer(api.end)
        return api

    return one


def test_each_secret_setting_is_tried():
    assert set(SECRETS) == {name for name in SETTINGS if is_secret(name)}
    assert set(BY_OTHER_NAMES) == {name for name, setting in OTHER_NAMES.items() if is_secret(setting)}


def test_an_api_whose_buckets_are_away_gives_no_secret_out(start):
    api = start(DATABASE_URL="")
    api.wait()
    tokens = ("n33dle-token-1", "n33dle-admin-token", "n33dle-token-3", "n33dle-metrics-token", None)
    told = [api.service.get(path, token=token) for path in PATHS for token in tokens]
    told.append(api.service.post("/v1/runs", json={"language": "python", "code": "1"}, token="n33dle-token-1"))
    told.append(api.service.post("/v1/runs", json={"n33": 1}, token="n33dle-token-2"))
    told.append(api.service.post("/v1/files", data=b"x", token="n33dle-token-2"))
    assert {200, 401, 404, 503} <= {reply.status for reply in told}
    assert not any("n33dle" in str(vars(reply)) for reply in told)
    until(lambda: "opentelemetry" in api.said(), 30)
    api.process.terminate()
    api.process.wait(30)
    assert "limiter" in api.said(), "the buckets were not asked for"
    assert "n33dle" not in api.said()


def test_an_api_whose_database_is_away_gives_no_secret_out(start):
    api = start()
    assert api.process.wait(60) != 0
    assert "the database cannot be opened" in api.said()
    assert "n33dle" not in api.said()


def test_doctor_gives_no_secret_out(tmp_path):
    shown = run_with(tmp_path, "ops.doctor", {**SECRETS, **OF_LIBRARIES})
    assert "DATABASE_URL" in shown


def run_with(state, module, environ, *arguments):
    """Return all that a program of ours prints in this environment, which must hold no secret."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPO,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "STATE_DIR": str(state), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    shown = done.stdout + done.stderr
    assert "n33dle" not in shown
    return shown


#: None of them is in place of a secret by its own name.
WITHOUT = {name: value for name, value in SECRETS.items() if name not in ("API_KEYS", "RATELIMIT_URL")}


@pytest.mark.parametrize("more", [{}, {"RUNNER_LOG_LEVEL": "n33dle"}, {"RUNNER_PORT": "n33dle"}, {"PORT": "1"}])
def test_doctor_gives_no_secret_out_by_another_name(tmp_path, more):
    shown = run_with(
        tmp_path, "ops.doctor", {**WITHOUT, **OF_LIBRARIES, **BY_OTHER_NAMES, "RUNNER_PORT": "81", **more}
    )
    assert ("invalid: " in shown) == bool(more)


@pytest.mark.parametrize(
    "more",
    [
        {"RUNNER_API_KEY": "n33dle:key"},
        {"RUNNER_REDIS_URL": "redis://n33dle@127.0.0.1:1/x"},
        {"LOG_LEVEL": "ERROR"},
    ],
)
def test_a_start_that_is_refused_gives_no_secret_out(tmp_path, more):
    environ = {**WITHOUT, **BY_OTHER_NAMES, "RUNNER_LOG_LEVEL": "warn", **more}
    assert next(iter(more)) in run_with(tmp_path, "ops.contained", environ, "api")


def test_an_api_in_a_container_gives_no_secret_out_by_another_name(tmp_path):
    """It becomes gunicorn's process, and ends because its database is away."""
    (tmp_path / "storage").mkdir()
    environ = {**WITHOUT, **BY_OTHER_NAMES, "RUNNER_HOST": "127.0.0.1", "RUNNER_PORT": "1"}
    assert "the database cannot be opened" in run_with(tmp_path, "ops.contained", environ, "api")
