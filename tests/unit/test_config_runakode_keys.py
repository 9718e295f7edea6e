"""The keys of runakode's config.yaml in a settings file: their settings, units and refusals."""

from __future__ import annotations

import os

import pytest

from config.environment import SETTINGS
from config.runakode_keys import RUNAKODE_KEYS
from config.settings import Settings, SettingsError
from config.settings_file import apply_file, load

#: As runakode's own repository has it, but for the last lines.
SAMPLE = """---
# --- General ---
address: 127.0.0.1
port: 8080
rabbitmq:
  url: "amqp://guest:guest@localhost:5672/"
  queue: "runner_jobs"
supportedLanguages:
  - "python"
  - "go"
apiTimeout: 5
maxWorkers: 2
jobCpu: "1"
jobMemory: "1024m"
jobTimeout: 10
outputMaxBytes: 65536
"""
VARIABLES = {
    "BIND": "127.0.0.1",
    "PORT": "8080",
    "AMQP_URL": "amqp://guest:guest@localhost:5672/",
    "AMQP_QUEUE": "runner_jobs",
    "LANGUAGES": "python,go",
    "QUEUE_WAIT_S": "5",
    "MAX_RUNS": "2",
    "RUNAKODE_CPUS": "1.0",
    "RUNAKODE_MEMORY_MB": "1024",
    "RUNAKODE_TIMEOUT_MS": "10000",
    "RUNAKODE_OUTPUT_BYTES": "65536",
}


@pytest.fixture
def bare(monkeypatch):
    """An environment without settings."""
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)


def write(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def refused(folder, text):
    path = write(folder, text)
    with pytest.raises(SettingsError) as caught:
        load({}, folder, file=path)
    return str(caught.value)


def test_runakodes_own_sample_gives_our_settings(tmp_path):
    found = load({}, tmp_path, file=write(tmp_path, SAMPLE))
    assert found.environment == VARIABLES
    assert found.from_file == frozenset(VARIABLES)
    assert found.origin("AMQP_URL") == f" (rabbitmq.url in {tmp_path}/config.yaml)"
    assert found.origin("PORT") == f" (port in {tmp_path}/config.yaml)"


@pytest.mark.usefixtures("bare")
def test_the_settings_are_valid_together(tmp_path):
    _, settings = apply_file(tmp_path, "development", file=write(tmp_path, SAMPLE))
    assert (settings.runakode_cpus, settings.runakode_memory_mb, settings.queue_wait_s) == (1.0, 1024, 5.0)
    assert settings.amqp_address.hosts == (("localhost", 5672),)


def test_toml_has_the_same_keys(tmp_path):
    text = 'maxWorkers = 3\njobTimeout = 0.25\n[rabbitmq]\nqueue = "jobs"\n'
    found = load({}, tmp_path, file=write(tmp_path, text, "other.toml"))
    assert found.environment == {"MAX_RUNS": "3", "RUNAKODE_TIMEOUT_MS": "250", "AMQP_QUEUE": "jobs"}


def test_every_setting_exists_and_one_with_a_unit_has_bounds():
    for key, facts in RUNAKODE_KEYS.items():
        field = Settings.model_fields[facts.setting]
        kinds = {
            kind for entry in field.metadata for kind in ("ge", "le") if getattr(entry, kind, None) is not None
        }
        assert facts.convert is None or kinds == {"ge", "le"}, key
        assert (facts.convert is None) == (facts.form == ""), key


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("jobCpu: 0.5", {"RUNAKODE_CPUS": "0.5"}),
        ("jobCpu: '.5'", {"RUNAKODE_CPUS": "0.5"}),
        ("jobMemory: 268435456", {"RUNAKODE_MEMORY_MB": "256"}),
        ("jobMemory: 1g", {"RUNAKODE_MEMORY_MB": "1024"}),
        ("jobMemory: 65536K", {"RUNAKODE_MEMORY_MB": "64"}),
        ("jobMemory: 16777217b", {"RUNAKODE_MEMORY_MB": "16"}),
        ("jobTimeout: 0.0004", {"RUNAKODE_TIMEOUT_MS": "1"}),
        ("supportedLanguages: python,go", {"LANGUAGES": "python,go"}),
        ("rabbitmq:", {}),
        ("jobMemory: ''", {}),
        ("jobMemory:", {}),
    ],
)
def test_values_in_other_units_and_types(tmp_path, text, variables):
    assert load({}, tmp_path, file=write(tmp_path, text)).environment == variables


def test_images_of_sandboxes_are_warned_about_and_unused(tmp_path):
    path = write(tmp_path, "sandboxImages: {python: python-runner, go: [1]}\n")
    found = load({}, tmp_path, file=path)
    assert found.environment == {}
    (warning,) = found.warnings
    assert warning.startswith(f"sandboxImages in {path} has no effect")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobTimeout: '10'", "jobTimeout in FILE: must be a number of seconds (0.001 to 60), not text"),
        ("jobTimeout: 61", "must be a number of seconds (0.001 to 60): this is more"),
        ("jobTimeout: 0", "this is less"),
        ("jobTimeout: -5", "this is less"),
        ("jobTimeout: .inf", "must be a number of seconds (0.001 to 60), not a number"),
        ("jobTimeout: .nan", "must be a number of seconds (0.001 to 60), not a number"),
        ("jobTimeout: true", "not true or false"),
        (f"jobTimeout: {'9' * 4000}", "this is more"),
        ("jobCpu: 'one'", "jobCpu in FILE: must be processors as docker's --cpus has them"),
        ("jobCpu: '4'", "(0.1 to 2): this is more"),
        ("jobCpu: .nan", "jobCpu in FILE: must be"),
        (f"jobCpu: {'9' * 4000}", "this is more"),
        ("jobMemory: 8m", "(16 to 2048 MiB): this is less"),
        ("jobMemory: 4g", "(16 to 2048 MiB): this is more"),
        ("jobMemory: 1t", "not text"),
        ("jobMemory: -1", "jobMemory in FILE: must be a size"),
        ("jobMemory: 1.5", "not a number"),
        (f"jobMemory: {'9' * 4000}", "jobMemory in FILE: must be"),
        ("maxWorkers: two", "maxWorkers in FILE: must be an integer (≥ 1, ≤ 1024), not text"),
        ("maxWorkers: 0", "maxWorkers in FILE: must be an integer (≥ 1, ≤ 1024), not 0"),
        ("outputMaxBytes: 1k", "outputMaxBytes in FILE: must be an integer (≥ 1, ≤ 8388608), not text"),
        ("apiTimeout: 0", "apiTimeout in FILE: must be a number (> 0, ≤ 600), not 0"),
        ("supportedLanguages: [1]", "entry 1 is an integer"),
        ("address: 127", "address in FILE: must be text in quotes, not an integer"),
        ("rabbitmq: amqp://x", "rabbitmq in FILE: must be a table with url and queue, not text"),
        ("rabbitmq: {ulr: x}", "rabbitmq.ulr in FILE: unknown setting; nearest known: rabbitmq.url"),
        ("rabbitmq: {1: x}", "rabbitmq.1 in FILE: unknown setting"),
        ("rabbitmq: {url: 5}", "rabbitmq.url in FILE: must be text in quotes"),
        ("jobcpu: 1", "nearest known: jobCpu"),
        ("maxWorker: 1", "nearest known: maxWorkers"),
        ("supportedLangages: []", "nearest known: supportedLanguages"),
        (
            "address: 127.0.0.1\nbind: 127.0.0.2",
            "bind in FILE: is the same setting as address: remove one of the two",
        ),
        ("max_runs: 1\nmaxWorkers: 1", "maxWorkers in FILE: is the same setting as max_runs"),
    ],
)
def test_what_is_wrong_is_named_by_runakodes_key_with_the_bound(tmp_path, text, words):
    said = refused(tmp_path, text)
    assert words.replace("FILE", str(tmp_path / "config.yaml")) in said
    assert len(said) < 400


@pytest.mark.usefixtures("bare")
def test_a_check_of_the_whole_names_runakodes_key_and_no_password(tmp_path):
    path = write(tmp_path, "rabbitmq:\n  url: http://user:n33dle@host/\n")
    with pytest.raises(SettingsError, match="AMQP_URL") as caught:
        apply_file(tmp_path, file=path)
    assert f"(rabbitmq.url in {path})" in str(caught.value)
    assert "n33dle" not in str(caught.value)


def test_a_file_that_is_named_must_be_there_and_may_name_the_state(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load({}, tmp_path, file=tmp_path / "none.yaml")
    path = write(tmp_path, "state_dir: /elsewhere\n")
    assert load({}, tmp_path, file=path).environment == {"STATE_DIR": "/elsewhere"}
    assert load({"STATE_DIR": "/here"}, tmp_path, file=path).environment == {"STATE_DIR": "/here"}


def test_flags_are_above_the_environment_by_every_name(tmp_path):
    environ = {"port": "1", "BIND": "10.0.0.1", "RUNNER_HOST": "10.0.0.2", "RUNNER_PORT": "2", "HOME": "/"}
    flags = {"BIND": "127.0.0.1", "PORT": "3"}
    found = load(environ, tmp_path, flags=flags)
    assert found.environment == {**flags, "HOME": "/"}
    assert found.from_flags == set(flags)
    assert found.other_names == {}
