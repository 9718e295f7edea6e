"""What make install writes, and how the commands learn which way the service runs."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.environment import SETTINGS
from config.roles import ALL, API, ROLES, WORKER
from config.settings import SettingsError
from config.settings_file import load
from config.variables import find_other
from ops import installed, new_settings, settings, systemd
from ops import state as state_module
from ops.install import InstallError
from ops.installed import HELD, read_settings
from ops.record import ServiceRecord, read_record
from ops.state import DEFAULT_STATE_DIR, StatePlace
from ops.systemd import check_settings
from ops.unit_files import (
    BROKER_DROP_IN,
    GVISOR_DROP_IN,
    TARGETS,
    read_files,
    remove_files,
    restore_files,
    write_files,
)
from ops.unit_settings import quoted, write_unit_settings


def test_files_are_written_once_and_again_only_when_they_differ(tmp_path):
    assert write_files(tmp_path, gvisor=False)
    assert all((tmp_path / target).exists() for target in TARGETS.values())
    assert not (tmp_path / GVISOR_DROP_IN).exists()
    assert not write_files(tmp_path, gvisor=False)
    unit = tmp_path / "etc/systemd/system/runyard-worker.service"
    unit.write_text("[Service]\n")
    assert write_files(tmp_path, gvisor=False)
    assert "ExecStart=" in unit.read_text()


UNITS_OF = {
    "all": {"prepare", "egress", "worker", "api", "images"},
    "api": {"prepare", "api"},
    "worker": {"prepare", "egress", "worker", "images"},
}


def units_in(root):
    return {path.stem.removeprefix("runyard-") for path in (root / "etc/systemd/system").glob("*.service")}


@pytest.mark.parametrize("name", list(ROLES))
def test_the_units_of_a_role_are_written_and_known_and_those_of_others_removed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(installed, "UNIT_FOLDER", tmp_path / "etc/systemd/system")
    monkeypatch.setattr(installed, "has_systemd", lambda: True)
    assert not installed.is_installed()
    for before in (ALL, ROLES[name]):
        write_files(tmp_path, gvisor=True, role=before)
    assert units_in(tmp_path) == UNITS_OF[name]
    assert installed.is_installed()
    assert installed.installed_role() is ROLES[name]
    assert installed.installed_services() == installed.services_of(ROLES[name])
    assert not write_files(tmp_path, gvisor=True, role=ROLES[name])
    assert write_files(tmp_path, gvisor=True, role=API) == (name != "api")


def test_a_worker_reaches_the_network_where_it_has_a_broker(tmp_path):
    drop_in = tmp_path / BROKER_DROP_IN
    write_files(tmp_path, gvisor=False, role=API, broker=True)
    assert not drop_in.exists()
    assert write_files(tmp_path, gvisor=False, role=WORKER, broker=True)
    assert "PrivateNetwork=no\nIPAddressDeny=\n" in drop_in.read_text()
    before = read_files(tmp_path)
    assert write_files(tmp_path, gvisor=False, role=ALL)
    assert not drop_in.exists()
    restore_files(before)
    assert read_files(tmp_path) == before
    remove_files(tmp_path)
    assert not list(tmp_path.rglob("*.conf"))


@pytest.mark.parametrize(("role", "generates"), [(None, True), ("all", True), ("api", False), ("worker", False)])
def test_only_a_machine_that_does_everything_is_given_secrets_of_its_own(bare, tmp_path, role, generates):
    """Several machines must have the same."""
    for name in ("SIGNING_KEY", "API_KEYS", "ROLE"):  # whatever the test sets is undone
        bare.setenv(name, "1")
        bare.delenv(name)
    bare.setattr(systemd, "SETTINGS", tmp_path / "runyard/environment")
    if role is not None:
        bare.setenv("ROLE", role)
    installation = systemd.Installation()
    installation._is_new = True
    installation._check_callers_settings()
    assert ("SIGNING_KEY" in os.environ, "API_KEYS" in os.environ) == (generates, generates)


def test_where_gvisor_is_installed_its_calls_are_left_open(tmp_path):
    assert write_files(tmp_path, gvisor=True)
    assert "SystemCallFilter=@debug" in (tmp_path / GVISOR_DROP_IN).read_text()


def test_what_was_written_is_removed_and_nothing_else(tmp_path):
    write_files(tmp_path, gvisor=True)
    other = tmp_path / "etc/systemd/system/other.service"
    other.write_text("")
    remove_files(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]


def test_files_are_brought_back_to_what_they_were(tmp_path):
    write_files(tmp_path, gvisor=False)
    unit = tmp_path / "etc/systemd/system/runyard-worker.service"
    unit.write_text("[Service]\n")
    before = read_files(tmp_path)
    write_files(tmp_path, gvisor=True)
    restore_files(before)
    assert read_files(tmp_path) == before
    assert not (tmp_path / GVISOR_DROP_IN).exists()


def test_a_new_settings_file_is_roots_alone_holds_what_was_given_and_is_never_written_over(tmp_path, bare):
    given = {
        "RUNYARD_ENV": "production",
        "API_KEYS": "t0ken-of-the-test:default:50:100",
        "LANGUAGES": "bash, go",
        "PORT": "9000",
        "ACCESS_LOG": "0",
        "DRAIN_S": "2.5",
        "PLANS_FILE": '/etc/a "b" \\ ü.toml',
        "RUNNER_IMAGE_BASH": "/images/bash",
        "OTEL_SERVICE_NAME": "me",
        "HTTPS_PROXY": "http://proxy",
        "STATE_DIR": "/var/lib/runyard",
    }
    for name, value in given.items():
        bare.setenv(name, value)
    path = tmp_path / "runyard/runyard.toml"
    new_settings.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    kept = {name: value for name, value in given.items() if name not in {"HTTPS_PROXY", "STATE_DIR"}}
    assert load({}, path.parent).environment == kept
    with pytest.raises(FileExistsError):
        new_settings.write(path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("PORT=9000\n", {"PORT": "9000"}),
        ("# PORT=1\n; PORT=2\n\nnonsense\n", {}),
        ("A=\"b c\"\nB='d'\n", {"A": "b c", "B": "d"}),
        ("A=it's\n", {"A": "it's"}),
        (" URL=postgresql://u:p@h/d?x=y \n", {"URL": "postgresql://u:p@h/d?x=y"}),
    ],
)
def test_settings_are_read_as_systemd_reads_them(text, found):
    assert read_settings(text) == found


@pytest.fixture
def bare(monkeypatch):
    """No settings in the environment."""
    for name in list(os.environ):
        if name.upper() in SETTINGS or find_other(name) is not None:
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def installation(bare, tmp_path):
    """A machine where the units are installed, with its files in `etc` and its state in `state`."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    etc.mkdir()
    state.mkdir()
    (etc / "environment").write_text("PORT=9000\n")
    for name in ("STATE_DIR", "PORT"):  # whatever the test sets is undone
        bare.setenv(name, "1")
        bare.delenv(name)
    for module in (installed, settings):
        bare.setattr(module, "SETTINGS", etc / "environment")
    bare.setattr(settings, "is_installed", lambda: True)
    bare.setattr(settings, "runs", lambda _place: False)
    for module in (settings, state_module):
        bare.setattr(module, "DEFAULT_STATE_DIR", str(state))
    return tmp_path


def test_commands_take_the_settings_of_the_installed_service(installation, monkeypatch):
    settings.use_service_settings()
    assert (os.environ["PORT"], os.environ["STATE_DIR"]) == ("9000", str(installation / "state"))


def test_a_caller_who_names_a_state_directory_means_another_service(installation, monkeypatch):
    monkeypatch.setenv("STATE_DIR", "/var/lib/other")
    settings.use_service_settings()
    assert "PORT" not in os.environ


@pytest.fixture
def unit(installation, monkeypatch):
    """The variables that systemd would give a unit, and the file for it written by its first step."""
    (installation / "etc/runyard.toml").write_text(
        'port = 8000\nmax_runs = 5\nadmin_token = "an-admin-token-1"\nlog_level = "DEBUG"\n'
    )
    (installation / "etc/runyard.toml").chmod(0o600)

    def write(name):
        with monkeypatch.context() as patch:
            patch.setenv("STATE_DIR", str(installation / "state"))
            patch.setenv("MAX_RUNS", "3")  # of the unit's file as the last start wrote it
            write_unit_settings(name)
            patch.undo()
        path = installation / f"state/run/{name}.env"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return read_settings(path.read_text())

    return write


def test_each_unit_gets_the_variables_that_it_reads_of_both_files(unit, installation):
    api, worker = unit("api"), unit("worker")
    assert (api["PORT"], api["MAX_RUNS"], api["ADMIN_TOKEN"]) == ("9000", "5", "an-admin-token-1")
    assert (worker["MAX_RUNS"], worker["LOG_LEVEL"]) == ("5", "DEBUG")
    assert not {"PORT", "ADMIN_TOKEN"} & set(worker)
    record = read_record(installation / "state/run/settings.json")
    assert (record.environment["PORT"], record.from_file) == ("9000", ["ADMIN_TOKEN", "LOG_LEVEL", "MAX_RUNS"])


def test_a_broken_file_does_not_keep_a_unit_from_starting_again(unit, installation, capsys):
    (installation / "etc/runyard.toml").write_text("max_runs = 0\n")
    with pytest.raises(SettingsError, match="max_runs"):
        unit("api")
    (installation / "etc/runyard.toml").write_text("max_runs = 6\n")
    assert unit("api")["MAX_RUNS"] == "6"
    (installation / "etc/runyard.toml").write_text("max_run = 7\n")
    assert unit("api")["MAX_RUNS"] == "6"
    assert "nearest known: max_runs" in capsys.readouterr().err


def test_the_settings_of_before_a_failed_installation_hold_until_one_succeeds(unit, installation):
    record = ServiceRecord({"MAX_RUNS": "2", "RUNYARD_ENV": "production"}, None, [], ["MAX_RUNS"])
    record.write(installation / "state" / HELD)
    assert unit("worker")["MAX_RUNS"] == "2"
    (installation / "state" / HELD).unlink()
    assert unit("worker")["MAX_RUNS"] == "5"


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=40))
def test_systemd_reads_back_what_is_written_for_it(value):
    """By shlex, whose rules for double quotes are systemd's but for `$` and the backtick, which it leaves alone."""
    text = quoted(value)
    assert not re.search(r"(?<!\\)(\\\\)*[`$]", text[1:-1])
    assert shlex.split(re.sub(r"\\([`$])", r"\1", text)) == [value]


def test_without_systemd_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(systemd, "has_systemd", lambda: False)
    monkeypatch.setattr(systemd, "SETTINGS", tmp_path / "environment")
    monkeypatch.setattr("sys.argv", ["ops.systemd", "install"])
    assert systemd.main() == 1
    assert "start the service with make up" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["STATE_DIR", "UID_BASE", "IMAGES_DIR", "STORAGE_DIR"])
def test_a_setting_that_the_units_decide_is_refused_by_its_name(name):
    with pytest.raises(InstallError, match=f"{name}=/elsewhere: "):
        check_settings({name: "/elsewhere"})


def test_what_was_refused_is_not_kept_for_the_next_call(monkeypatch, tmp_path):
    monkeypatch.setattr(systemd, "SETTINGS", tmp_path / "runyard/environment")
    monkeypatch.setattr(systemd, "check_account", lambda: None)
    monkeypatch.setattr(systemd, "is_running", lambda _place: False)
    monkeypatch.setenv("UID_BASE", "100000")
    with pytest.raises(InstallError, match="UID_BASE=100000"):
        systemd.Installation().run()
    assert not (tmp_path / "runyard").exists()


def test_other_settings_and_the_accounts_own_number_are_not():
    check_settings({"PORT": "9000", "UID_BASE": str(systemd.ACCOUNT_UID)})


@pytest.mark.parametrize(("given", "purges"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_only_one_word_has_records_removed(monkeypatch, given, purges):
    called = []
    monkeypatch.delenv("PURGE", raising=False)
    if given is not None:
        monkeypatch.setenv("PURGE", given)
    monkeypatch.setattr(systemd, "_check_systemd", lambda: None)
    monkeypatch.setattr(systemd, "uninstall", lambda *, purge: called.append(purge))
    monkeypatch.setattr("sys.argv", ["ops.systemd", "uninstall"])
    assert systemd.main() == 0
    assert called == [purges]


def test_any_other_word_is_refused_and_removes_nothing(monkeypatch, capsys):
    monkeypatch.setenv("PURGE", "no")
    monkeypatch.setattr(systemd, "_check_systemd", lambda: None)
    monkeypatch.setattr(systemd, "uninstall", lambda **_: pytest.fail("it was called"))
    monkeypatch.setattr("sys.argv", ["ops.systemd", "uninstall"])
    assert systemd.main() == 1
    assert "PURGE=no: must be 1" in capsys.readouterr().err


@pytest.mark.parametrize("what", [systemd.uninstall, lambda **_: systemd.Installation().run()])
def test_a_service_of_make_up_is_neither_upgraded_nor_removed(monkeypatch, what):
    monkeypatch.setattr(systemd, "is_installed", lambda: True)
    monkeypatch.setattr(systemd, "is_running", lambda _place: True)
    monkeypatch.setattr(systemd, "check_account", lambda: None)
    monkeypatch.setattr(systemd, "_run", lambda *_: pytest.fail("done before it was refused"))
    with pytest.raises(InstallError, match="make down first"):
        what(purge=True)


@pytest.mark.parametrize(
    ("states", "runs"),
    [
        ({"runyard-worker": "active", "runyard-api": "active"}, True),
        ({"runyard-worker": "activating", "runyard-api": "inactive"}, True),
        ({"runyard-worker": "failed", "runyard-api": "inactive"}, False),
        ({}, False),
    ],
)
def test_a_unit_that_is_being_started_again_counts_as_running(monkeypatch, states, runs):
    monkeypatch.setattr(installed, "unit_states", lambda: states)
    assert installed.runs_as_units(StatePlace(Path(DEFAULT_STATE_DIR))) is runs
    assert not installed.runs_as_units(StatePlace(Path("/var/lib/other")))
