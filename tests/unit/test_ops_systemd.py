"""What make install writes, and how the commands learn which way the service runs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ops import installed, systemd
from ops.install import InstallError
from ops.installed import read_settings, use_its_settings
from ops.state import DEFAULT_STATE_DIR, StatePlace
from ops.systemd import GVISOR_DROP_IN, TARGETS, check_settings, remove_files, write_files, write_settings


def test_files_are_written_once_and_again_only_when_they_differ(tmp_path):
    assert write_files(tmp_path, gvisor=False)
    assert all((tmp_path / target).exists() for target in TARGETS.values())
    assert not (tmp_path / GVISOR_DROP_IN).exists()
    assert not write_files(tmp_path, gvisor=False)
    unit = tmp_path / "etc/systemd/system/runyard-worker.service"
    unit.write_text("[Service]\n")
    assert write_files(tmp_path, gvisor=False)
    assert "ExecStart=" in unit.read_text()


def test_where_gvisor_is_installed_its_calls_are_left_open(tmp_path):
    assert write_files(tmp_path, gvisor=True)
    assert "SystemCallFilter=@debug" in (tmp_path / GVISOR_DROP_IN).read_text()


def test_what_was_written_is_removed_and_nothing_else(tmp_path):
    write_files(tmp_path, gvisor=True)
    other = tmp_path / "etc/systemd/system/other.service"
    other.write_text("")
    remove_files(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]


def test_settings_are_generated_for_root_alone_and_never_written_over(tmp_path):
    path = tmp_path / "runyard/environment"
    assert write_settings(path, {"LANGUAGES": "bash, go", "PORT": "9000"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    first = read_settings(path.read_text())
    assert first["RUNYARD_ENV"] == "production"
    assert len(first["SIGNING_KEY"]) >= 32
    assert "dev_123" not in first["API_KEYS"]
    assert (first["LANGUAGES"], first["PORT"]) == ("bash, go", "9000")
    assert not write_settings(path, {"PORT": "1"})
    assert read_settings(path.read_text()) == first
    write_settings(tmp_path / "other/environment", {})
    assert read_settings((tmp_path / "other/environment").read_text())["SIGNING_KEY"] != first["SIGNING_KEY"]


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
def installation(monkeypatch, tmp_path):
    """A machine where the units are installed, with PORT=9000."""
    (tmp_path / "environment").write_text("PORT=9000\n")
    monkeypatch.setattr(installed, "SETTINGS", tmp_path / "environment")
    monkeypatch.setattr(installed, "is_installed", lambda: True)
    for name in ("PORT", "STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_commands_take_the_settings_of_the_service_that_systemd_runs(installation, monkeypatch):
    use_its_settings()
    assert installed.os.environ["PORT"] == "9000"
    monkeypatch.delenv("PORT")


def test_a_caller_who_names_a_state_directory_means_another_service(installation, monkeypatch):
    monkeypatch.setenv("STATE_DIR", "/var/lib/other")
    use_its_settings()
    assert "PORT" not in installed.os.environ


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
    monkeypatch.setattr(systemd, "check_machine", lambda: None)
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
    monkeypatch.setattr(systemd, "check_machine", lambda: None)
    monkeypatch.setattr(systemd, "write_settings", lambda *_: pytest.fail("written before it was refused"))
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
