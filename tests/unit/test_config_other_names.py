"""The names that tinirun's server has for settings of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.environment import SETTINGS, secrets_in
from config.other_names import LOG_LEVELS, OTHER_NAMES, add_settings_of_other_names
from config.settings import SettingsError
from config.settings_file import apply_file, load
from config.variables import OTHERS, Secret, mask

REPO = Path(__file__).resolve().parents[2]
ALL = {
    "RUNNER_API_KEY": "api-key-123",
    "RUNNER_CLEANUP_INTERVAL": "120",
    "RUNNER_HOST": "0.0.0.0",
    "RUNNER_LOG_LEVEL": "warn",
    "RUNNER_PORT": "8082",
    "RUNNER_REDIS_URL": "redis://user:n33dle@127.0.0.1:6379/1",
}


@pytest.fixture
def bare(monkeypatch):
    """An environment without settings."""
    for name in list(os.environ):
        if name.upper() in {*SETTINGS, *OTHER_NAMES}:
            monkeypatch.delenv(name)
    return monkeypatch


def test_every_other_name_is_of_a_setting_and_known_to_masks_and_commands():
    assert set(OTHER_NAMES.values()) <= set(SETTINGS)
    assert set(ALL) == set(OTHER_NAMES) <= set(OTHERS)
    for name, setting in OTHER_NAMES.items():
        is_secret = SETTINGS[setting].secret is not Secret.NONE
        assert (OTHERS[name].secret is not Secret.NONE) == is_secret, name
        assert OTHERS[name].readers == {"ops"}, "the processes are given the settings"


def test_the_settings_are_those_of_the_other_names_which_no_process_gets(bare, tmp_path):
    for name, value in ALL.items():
        bare.setenv(name, value)
    layered, settings = apply_file(tmp_path)
    (key,) = settings.keys()
    assert (key.token, key.label, key.rps, key.burst) == ("api-key-123", "tinirun", 1000.0, 1000)
    assert (settings.cleanup_interval_s, settings.bind, settings.log_level) == (120.0, "0.0.0.0", "WARNING")
    assert (settings.port, settings.ratelimit_url) == (8082, ALL["RUNNER_REDIS_URL"])
    assert not set(ALL) & set(os.environ)
    assert layered.other_names == {setting: name for name, setting in OTHER_NAMES.items()}


@pytest.mark.parametrize(("given", "level"), [*LOG_LEVELS.items(), ("TRACE", "DEBUG"), ("Warn", "WARNING")])
def test_each_log_level_has_one_of_ours(given, level):
    environ = {"RUNNER_LOG_LEVEL": given}
    add_settings_of_other_names(environ)
    assert environ["LOG_LEVEL"] == level


@pytest.mark.parametrize(
    ("own", "keys"),
    [
        ("", "k-1:tinirun"),
        ("a:alice:5:10", "a:alice:5:10,k-1:tinirun"),
        ("k-1:bob:5:5, b", "k-1:bob:5:5,b"),
        ("c:tinirun:7:9", "c:tinirun:7:9,k-1:tinirun"),
    ],
)
def test_the_key_is_added_to_the_static_keys_once(own, keys):
    environ = {"RUNNER_API_KEY": "k-1", "API_KEYS": own}
    for _ in range(2):
        add_settings_of_other_names(environ)
        assert environ["API_KEYS"] == keys


def test_an_empty_variable_is_unset_and_case_does_not_matter():
    environ = {"RUNNER_API_KEY": "", "RUNNER_HOST": " ", "runner_port": "81"}
    assert add_settings_of_other_names(environ) == {"PORT": "runner_port"}
    assert environ["PORT"] == "81"
    assert not {"API_KEYS", "BIND"} & set(environ)


def test_the_same_value_by_both_names_is_no_conflict(tmp_path):
    both = {"RUNNER_PORT": "81", "PORT": "81", "RUNNER_LOG_LEVEL": "trace", "LOG_LEVEL": "DEBUG"}
    assert load(both, tmp_path).environment == {"PORT": "81", "LOG_LEVEL": "DEBUG"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"RUNNER_PORT": "81", "PORT": "82"}, "RUNNER_PORT and PORT are both set and differ: unset one"),
        ({"RUNNER_HOST": "::1", "bind": "127.0.0.1"}, "RUNNER_HOST and BIND are both set and differ"),
        ({"RUNNER_LOG_LEVEL": "loud"}, "RUNNER_LOG_LEVEL: must be trace, debug, info, warn or error"),
        ({"RUNNER_API_KEY": "n33dle:x"}, "RUNNER_API_KEY: must be 1 to 256 visible ASCII characters"),
        ({"RUNNER_API_KEY": "n33dle,x"}, "RUNNER_API_KEY: must be 1 to 256"),
        ({"RUNNER_API_KEY": "n33dle x"}, "RUNNER_API_KEY: must be 1 to 256"),
        ({"RUNNER_API_KEY": "n33dle" * 50}, "RUNNER_API_KEY: must be 1 to 256"),
    ],
)
def test_what_cannot_be_is_refused_by_name_without_the_value(tmp_path, environ, words):
    with pytest.raises(SettingsError, match=words) as refused:
        load(environ, tmp_path)
    assert "n33dle" not in str(refused.value)
    assert "loud" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RUNNER_PORT", "70000", "PORT: .*given as RUNNER_PORT"),
        ("RUNNER_CLEANUP_INTERVAL", "0", "CLEANUP_INTERVAL_S: .*given as RUNNER_CLEANUP_INTERVAL"),
        ("RUNNER_REDIS_URL", "redis://n33dle@x/y", "RATELIMIT_URL: .*given as RUNNER_REDIS_URL"),
    ],
)
def test_a_value_out_of_bounds_names_the_setting_and_the_name_that_was_given(bare, tmp_path, name, value, words):
    bare.setenv(name, value)
    with pytest.raises(SettingsError, match=words) as refused:
        apply_file(tmp_path)
    assert "n33dle" not in str(refused.value)


def test_the_environment_is_above_the_file_by_either_name(bare, tmp_path):
    (tmp_path / "runyard.toml").write_text("port = 81\n")
    bare.setenv("RUNNER_PORT", "82")
    layered, settings = apply_file(tmp_path)
    assert (settings.port, layered.from_file) == (82, frozenset())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runner_port = 81\n", "runner_port in .*: is a name for the environment alone: write it as port"),
        ("[environment]\nRUNNER_API_KEY = 'n33dle'\n", "RUNNER_API_KEY in .*: is a setting: write it as api_keys"),
    ],
)
def test_the_settings_file_has_our_names_alone(tmp_path, text, words):
    (tmp_path / "runyard.toml").write_text(text)
    with pytest.raises(SettingsError, match=words) as refused:
        load({}, tmp_path)
    assert "n33dle" not in str(refused.value)


def test_the_secrets_are_masked_before_they_are_settings():
    text = mask(f"{ALL['RUNNER_API_KEY']} {ALL['RUNNER_REDIS_URL']}", secrets_in(ALL))
    assert "api-key-123" not in text
    assert "n33dle" not in text


def test_the_commands_of_make_know_the_settings_by_the_standard_library_alone(tmp_path):
    code = "import os; from ops.settings import take_other_names as t; t(); print(os.environ['PORT'], os.environ['BIND'])"
    env = {"PATH": "/usr/bin:/bin", "RUNNER_PORT": "81", "RUNNER_HOST": "::1"}
    done = subprocess.run(
        ["/usr/bin/python3", "-E", "-s", "-B", "-c", code],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "81 ::1\n"


def test_doctor_shows_them_as_settings_and_no_secret(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ops.doctor"],
        cwd=REPO,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "STATE_DIR": str(tmp_path), **ALL, "RUNNER_API_KEY": "n33dle-k"},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert "n33dle" not in done.stdout + done.stderr
    lines = {
        line.split()[0]: line.split()[1:3]
        for line in done.stdout.splitlines()
        if line.startswith("  ") and line.split()[1:]
    }
    assert lines["PORT"] == ["set", "8082"]
    assert lines["API_KEYS"] == ["set", "***"]
    assert lines["LOG_LEVEL"] == ["set", "WARNING"]
