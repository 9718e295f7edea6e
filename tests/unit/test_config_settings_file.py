"""The settings file: what it gives, how it is layered, and what is refused with key, file and bound."""

from __future__ import annotations

import json
import math
import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.allowed import choices, expected, kinds
from config.environment import SETTINGS
from config.settings import Settings, SettingsError, load_settings
from config.settings_document import MAX_BYTES
from config.settings_file import apply_file, find, load


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def write(folder, text, name="runyard.toml", mode=0o600):
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(folder, text, name="runyard.toml"):
    path = write(folder, text, name)
    with pytest.raises(SettingsError) as caught:
        load({}, folder)
    assert str(path) in str(caught.value)
    path.unlink()
    return str(caught.value)


TOML = """
max_runs = 8
drain_s = 2.5
retention_hours = 12
access_log = false
engine = "oci"
languages = ["python", "bash"]
api_keys = ["t0ken-number-one:a:1:1", "t0ken-number-two:b"]
plans_file = "/etc/runyard/plans.toml"
runner_image_bash = "/images/bash"
admin_token = ""
[environment]
HTTPS_PROXY = "http://proxy:3128"
"""
YAML = """
max_runs: 8
drain_s: 2.5
retention_hours: 12
access_log: false
engine: oci
languages: [python, bash]
api_keys:
  - t0ken-number-one:a:1:1
  - t0ken-number-two:b
plans_file: /etc/runyard/plans.toml
runner_image_bash: /images/bash
admin_token:
environment:
  HTTPS_PROXY: http://proxy:3128
"""
VARIABLES = {
    "MAX_RUNS": "8",
    "DRAIN_S": "2.5",
    "RETENTION_HOURS": "12",
    "ACCESS_LOG": "0",
    "ENGINE": "oci",
    "LANGUAGES": "python,bash",
    "API_KEYS": "t0ken-number-one:a:1:1,t0ken-number-two:b",
    "PLANS_FILE": "/etc/runyard/plans.toml",
    "RUNNER_IMAGE_BASH": "/images/bash",
    "HTTPS_PROXY": "http://proxy:3128",
}


@pytest.mark.parametrize(("name", "text"), [("runyard.toml", TOML), ("runyard.yaml", YAML), ("runyard.yml", YAML)])
def test_both_formats_give_the_same_variables(folder, name, text):
    path = write(folder, text, name)
    found = load({}, folder)
    assert found.environment == VARIABLES
    assert (found.file, found.from_file, found.warnings) == (path, frozenset(VARIABLES), ())


def test_the_environment_is_above_the_file_and_an_empty_variable_is_unset(folder):
    write(folder, TOML)
    found = load({"MAX_RUNS": "3", "engine": "docker", "LANGUAGES": "", "HOME": "/root"}, folder)
    assert (found.environment["MAX_RUNS"], found.environment["ENGINE"]) == ("3", "docker")
    assert (found.environment["LANGUAGES"], found.environment["HOME"]) == ("python,bash", "/root")
    assert not {"MAX_RUNS", "ENGINE", "HOME"} & found.from_file


def test_without_a_file_the_environment_is_as_it_was(folder):
    assert load({"PORT": "1", "HOME": "/"}, folder / "none").environment == {"PORT": "1", "HOME": "/"}
    assert find(folder) is None


def test_two_files_are_refused_by_both_names(folder):
    first, second = write(folder, ""), write(folder, "", "runyard.yaml")
    with pytest.raises(SettingsError, match="only one settings file") as caught:
        load({}, folder)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_a_variable_given_twice_in_different_case_is_refused(folder):
    with pytest.raises(SettingsError, match="MAX_RUNS is in the environment twice"):
        load({"MAX_RUNS": "1", "max_runs": "2"}, folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_run = 8", "max_run in ; unknown setting; nearest known: max_runs"),
        ("MAX_RUNS = 8", "nearest known: max_runs"),
        ("xyzzy = 1", "unknown setting; docs/configuration.md lists all"),
        ("[runyard]\nport = 1", "unknown setting"),
        ('max_runs = "8"', "max_runs in ; must be an integer (≥ 1, ≤ 1024), not text"),
        ("max_runs = true", "must be an integer (≥ 1, ≤ 1024), not true or false"),
        ("max_runs = 8.0", "must be an integer (≥ 1, ≤ 1024), not a number"),
        ("max_runs = 0", "must be an integer (≥ 1, ≤ 1024), not 0"),
        ("max_runs = [8]", "must be an integer (≥ 1, ≤ 1024), not a list"),
        ("max_runs = 1979-05-27", "not a date or time"),
        (f"max_runs = 0x{'f' * 9000}", "must be an integer (≥ 1, ≤ 1024), not a number of that size"),
        (f"max_runs = {'9' * 9000}", "is not valid TOML"),
        ("drain_s = nan", "must be a number (≥ 0, ≤ 600), not nan"),
        ("drain_s = inf", "must be a number (≥ 0, ≤ 600)"),
        ("access_log = 1", "must be true or false, not an integer"),
        ('engine = "dokcer"', 'must be one of "auto", "oci", "docker"; nearest: docker'),
        ("admin_token = 12", "admin_token in ; must be text in quotes, not an integer"),
        ("languages = [1]", "entry 1 is an integer"),
        ('languages = ["a,b"]', "entry 1 must be one line of printable characters without a comma"),
        ('bind = ["127.0.0.1"]', "must be text in quotes, not a list"),
        ('bind = "a\\nPORT=1"', "must be one line of printable characters"),
        ('bind = "a\\u0000"', "must be one line of printable characters"),
        ("environment = 3", "must be a table of variables"),
        ('[environment]\nMAX_RUNS = "8"', "is a setting: write it as max_runs"),
        ('[environment]\nLD_PRELOAD = "/evil.so"', "no process reads a variable of this name"),
        ('[environment]\n"HTTP_PROXY=x" = "y"', "no process reads"),
        ("[environment]\nHTTP_PROXY = 3", "must be text in quotes, not an integer"),
        ("runner_image_bash = 3", "must be text in quotes"),
        ('state_dir = "/elsewhere"', "set STATE_DIR in the environment"),
        ("port = 1\nport = 2", "is not valid TOML"),
        ("port =", "is not valid TOML"),
        ("a = " + "[" * 100_000, "is nested too deeply"),
        ("x" * (MAX_BYTES + 1), f"is larger than {MAX_BYTES} bytes"),
    ],
)
def test_what_is_wrong_in_toml_is_named_with_the_file_and_what_is_allowed(folder, text, words):
    said = refused(folder, text)
    for part in words.split(" ; ") if " ; " in words else [words]:
        assert part.removesuffix(" in ") in said
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_run: 8", "nearest known: max_runs"),
        ("max_runs: '8'", "must be an integer (≥ 1, ≤ 1024), not text"),
        ("bind: no", "must be text in quotes, not true or false"),
        ("admin_token: 2026-01-01", "not a date or time"),
        ("8: 1", "8 in"),
        ("? [a, b]\n: 1", "is not valid YAML"),
        ("- port", "must hold settings as"),
        ("port", "must hold settings as"),
        ("port: 1\nport: 2", "port is given twice"),
        ("environment: {TZ: a, TZ: b}", "TZ is given twice"),
        ("port: 1\n--- \nport: 2", "is not valid YAML"),
        ("bind: !!python/object/apply:os.system [id]", "is not valid YAML"),
        ("bind: 'a\x00'", "is not valid YAML"),
        ('bind: "\\ud800"', "one line of printable characters"),
        ("admin_token: 'open-secret", "is not valid YAML"),
        ("port: [" * 5_000, "is nested too deeply"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nlanguages: [*b,*b]", "unknown setting"),
    ],
)
def test_what_is_wrong_in_yaml_is_named_with_the_file(folder, text, words):
    said = refused(folder, text, "runyard.yaml")
    assert words in said
    assert "open-secret" not in said


def test_every_problem_is_told_at_once(folder):
    assert len(refused(folder, "max_runs = 0\nprot = 1\nport = 0\n").splitlines()) == 3


def test_no_value_of_the_file_is_told(folder):
    assert "hunter2" not in refused(folder, 'max_runs = "hunter2"\nengine = "hunter2"\nadmin_token = ["hunter2"]')


def test_secrets_that_others_can_read_are_warned_about(folder):
    path = write(folder, 'admin_token = "an-admin-token-1"', mode=0o644)
    assert load({}, folder).warnings == (f"{path} holds secrets and other accounts can read it: chmod 600 {path}",)
    write(folder, "max_runs = 3", mode=0o644)
    assert load({}, folder).warnings == ()
    write(folder, "max_runs = 3", mode=0o666)
    assert "can be changed by other accounts" in load({}, folder).warnings[0]


def test_what_is_no_file_or_cannot_be_decoded_is_refused(folder):
    path = folder / "runyard.toml"
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="is not a regular file"):
        load({}, folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match="Is a directory"):
        load({}, folder)
    path.rmdir()
    path.symlink_to("/nonexistent")
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load({}, folder)
    path.unlink()
    path.write_bytes(b"bind = '\xff'")
    with pytest.raises(SettingsError, match="is not UTF-8"):
        load({}, folder)


def test_a_check_across_settings_names_the_key_in_the_file(folder, monkeypatch):
    for name in ("BIND", "API_KEYS", "RUNYARD_ENV", "API_PROCESSES", "RATELIMIT_URL"):
        monkeypatch.delenv(name, raising=False)
    path = write(folder, 'bind = "0.0.0.0"\n')
    with pytest.raises(SettingsError, match="development token") as caught:
        apply_file(folder, "development")
    assert f"(bind in {path})" in str(caught.value)


def values(name):
    """Values that the table allows for a setting, with their place in TOML and YAML by JSON's notation."""
    field, facts = Settings.model_fields[name], SETTINGS[name.upper()]
    bounds = {
        kind: getattr(entry, kind)
        for entry in field.metadata
        for kind in ("ge", "gt", "le")
        if getattr(entry, kind, None) is not None
    }
    if words := choices(field):
        return st.sampled_from(words)
    if bool in kinds(field):
        return st.booleans()
    if int in kinds(field):
        return st.integers(bounds.get("ge", 0), bounds.get("le", 2**31))
    if float in kinds(field):
        least = bounds.get("ge", bounds.get("gt"))
        return st.floats(least, bounds.get("le"), exclude_min="gt" in bounds)
    text = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters=","), min_size=1, max_size=20)
    return text | st.lists(text, min_size=1, max_size=3) if facts.is_list else text


@given(st.data())
def test_what_the_table_allows_is_read_alike_from_both_formats(tmp_path_factory, data):
    names = data.draw(st.sets(st.sampled_from(sorted(set(Settings.model_fields) - {"state_dir"})), max_size=5))
    chosen = {name: data.draw(values(name), name) for name in names}
    folders = [tmp_path_factory.mktemp("f") for _ in range(2)]
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in chosen.items())
    write(folders[0], "".join(lines))
    write(folders[1], yaml.safe_dump(chosen, allow_unicode=True), "runyard.yaml")
    first, second = (load({}, folder) for folder in folders)
    assert first.environment == second.environment
    assert set(first.environment) == {name.upper() for name in chosen}
    for name, value in chosen.items():
        text = first.environment[name.upper()]
        if isinstance(value, bool):
            assert text == str(int(value))
        elif isinstance(value, float):
            assert math.isclose(float(text), value)
        else:
            assert text == (",".join(value) if isinstance(value, list) else str(value))


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    st.sampled_from(["runyard.toml", "runyard.yaml"]),
)
def test_whatever_the_file_holds_is_read_or_refused(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("f")
    (folder / name).write_bytes(data)
    said, found = str(folder), {}
    try:
        found = load({}, folder).environment
    except SettingsError as e:
        said = str(e)
    assert str(folder) in said
    assert all(value.isprintable() for value in found.values())


def test_every_setting_says_what_it_allows():
    for name, field in Settings.model_fields.items():
        said = expected(field, is_list=SETTINGS[name.upper()].is_list)
        assert said.startswith(("text", "an integer", "a number", "true or false", "one of"))


def test_settings_that_are_comma_separated_may_be_lists():
    """The documentation says of each of them that it is comma-separated, or shows it."""
    lists = {name.lower() for name, facts in SETTINGS.items() if facts.is_list}
    said = {name for name, field in Settings.model_fields.items() if "comma-separated" in field.description}
    assert said <= lists
    assert lists - said == {"warm_pool", "gvisor_pool"}


def test_the_settings_of_the_file_are_those_of_the_process(folder, monkeypatch):
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)
    write(folder, TOML)
    for name, value in load({}, folder).environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.max_runs, settings.drain_s, settings.access_log, settings.engine) == (8, 2.5, False, "oci")
    assert settings.api_keys == "t0ken-number-one:a:1:1,t0ken-number-two:b"
