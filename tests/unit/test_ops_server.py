"""The commands of `runyard-server` that start nothing, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from config.environment import SETTINGS
from config.settings import SettingsError
from config.variables import Secret
from ops.config_command import remedy_of, show_problems, shown
from tests.unit.test_config_roles import SHARED

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder():
    """A directory that every account may enter, as a state directory must be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


def server(folder, *arguments, **variables):
    """The program in an environment that sets nothing but these variables."""
    return subprocess.run(
        [sys.executable, "-m", "ops.server", *arguments],
        cwd=REPO,
        env={"PATH": os.environ["PATH"], "STATE_DIR": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def rows(done):
    """The rows of `config show`: source, value and detail of each name."""
    return {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}


def test_the_program_is_an_entry_point_of_the_package():
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"runyard-server": "ops.server:main"}


def test_each_value_is_shown_with_its_source_and_no_secret(folder):
    path = write(
        folder, "port: 1\nmaxWorkers: 3\nqueue_max: 7\nenvironment: {HTTPS_PROXY: 'http://u:n33dle-p@h'}\n"
    )
    given = {
        **SHARED,
        "API_KEYS": "n33dle-token:a:1:1",
        "ADMIN_TOKEN": "n33dle-0123456789",
        "QUEUE_MAX": "8",
        "RUNNER_HOST": "127.0.0.1",
        "AWS_SECRET_ACCESS_KEY": "n33dle-aws",
    }
    done = server(folder, "config", "show", "--config", str(path), "--port", "9", **given)
    assert done.returncode == 0, done.stderr
    found = rows(done)
    assert found["PORT"] == ["flag", "9"]
    assert found["MAX_RUNS"] == ["file", f"3 (maxWorkers in {path})"]
    assert found["QUEUE_MAX"] == ["environment", "8"]
    assert found["BIND"] == ["environment", "127.0.0.1 (given as RUNNER_HOST)"]
    assert found["DRAIN_S"] == ["default", "10.0"]
    assert found["RUNYARD_ENV"] == ["default", "production"]
    assert found["SIGNING_KEY"] == found["API_KEYS"] == found["ADMIN_TOKEN"] == ["environment", "***"]
    assert found["DATABASE_URL"] == ["environment", "postgresql://runyard:***@db/runyard"]
    assert found["AMQP_URL"] == ["environment", "amqp://runyard:***@broker/v"]
    assert found["RATELIMIT_URL"] == ["environment", "redis://:***@valkey/0"]
    assert found["HTTPS_PROXY"] == ["file", "http://u:***@h"]
    assert found["AWS_SECRET_ACCESS_KEY"] == ["environment", "***"]
    assert set(found) >= set(SETTINGS)
    assert "n33dle" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("secret", "value", "text"),
    [
        (Secret.NONE, None, "-"),
        (Secret.NONE, True, "1"),
        (Secret.WHOLE, "x", "***"),
        (Secret.LIST, "one-key,other-key", "***"),
        (Secret.PASSWORD, None, "-"),
        (Secret.PASSWORD, "amqp://user:long-one@host/v", "amqp://user:***@host/v"),
        (Secret.PASSWORD, "amqp://host/v", "amqp://host/v"),
        (Secret.PASSWORD, "amqp://a:a@host/v", "***"),
        (Secret.PASSWORD, "amqp://user:p%40ss@host/v", "amqp://user:***@host/v"),
        (Secret.PASSWORD, "redis://h/0?password=long-one", "redis://h/0?password=***"),
    ],
)
def test_no_secret_is_shown_whatever_its_length(secret, value, text):
    assert shown(secret, value) == text


def test_a_good_configuration_is_said_to_be_good_and_nothing_is_asked_or_made(folder):
    path = write(folder, 'rabbitmq:\n  url: "amqp://guest:guest@127.0.0.1:1/"\nsupportedLanguages: [bash]\n')
    done = server(folder, "config", "check", "--config", str(path))
    assert (done.returncode, done.stdout) == (0, "good (ROLE=all)\n"), done.stderr
    assert done.stderr.startswith("warning: AMQP_URL with ROLE=all")
    assert list(folder.iterdir()) == [path]


def test_the_broker_is_asked_on_demand(folder):
    done = server(folder, "config", "check", "--connect", AMQP_URL="amqp://127.0.0.1:1/", LANGUAGES="bash")
    assert done.returncode == 2
    assert "AMQP_URL: no broker answers (127.0.0.1:1: Connection refused): start it" in done.stderr


@pytest.mark.parametrize(
    ("text", "variables", "lines"),
    [
        ("max_run: 8\nport: x\n", {}, ["nearest known: max_runs", "must be an integer (≥ 1, ≤ 65535), not text"]),
        ("", {"PORT": "x"}, ["PORT: ", "    -> PORT must be an integer (≥ 1, ≤ 65535)"]),
        ("", {"MAX_RUNS": "0", "DRAIN_S": "x"}, ["    -> MAX_RUNS must be", "    -> DRAIN_S must be"]),
        (
            "role: api\n",
            {},
            ["ROLE=api is for one of several machines, which share what is missing here: set AMQP_URL="],
        ),
        ("languages: cobol\nwarm_pool: nonsense\n", {}, ["no runner for cobol"]),
        ("plans_file: /nonexistent\n", {}, ["/nonexistent"]),
        ("seccomp_profile: /nonexistent\n", {}, ["SECCOMP_PROFILE=/nonexistent"]),
        ("- port", {}, ["must hold settings as"]),
    ],
)
def test_each_problem_is_printed_with_its_remedy(folder, text, variables, lines):
    path = write(folder, text)
    done = server(folder, "config", "check", "--config", str(path), **variables)
    assert done.returncode == 2, done.stdout
    for line in lines:
        assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_problem_without_a_remedy_is_given_the_description_of_its_setting(capsys):
    show_problems(SettingsError("a; b", ["SIGNING_KEY: is set but holds no key", "something else"]))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "SIGNING_KEY: is set but holds no key"
    assert said[1].startswith("    -> SIGNING_KEY: Secrets that sign links")
    assert said[3] == "    -> docs/configuration.md describes every setting"
    assert remedy_of("BIND=0.0.0.0 is refused: set API_KEYS") == ""


@pytest.mark.parametrize("role", ["all", "api", "worker"])
def test_a_start_with_settings_that_are_not_valid_ends_before_anything_is_made(folder, role):
    done = server(folder, role, "--port", "0")
    assert (done.returncode, list(folder.iterdir())) == (78, [])
    assert "PORT: " in done.stderr


def test_a_file_that_is_not_there_and_a_wrong_command(folder):
    done = server(folder, "config", "check", "--config", "none.yaml")
    assert (done.returncode, f"{REPO}/none.yaml: cannot be read" in done.stderr) == (2, True)
    assert server(folder, "both").returncode == 2
    assert server(folder, "config").returncode == 2
    assert server(folder, "--version").stdout.startswith("runyard ")
