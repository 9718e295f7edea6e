"""The roles of a machine: which settings each must share with the others, and what a whole service is warned about."""

from __future__ import annotations

import os

import pytest

from config.environment import SETTINGS, environment_of
from config.roles import ALL, ROLES, role_of
from config.settings import Settings, SettingsError, load_settings
from config.settings_file import apply_file
from config.shared_parts import missing_shared

SHARED = {
    "AMQP_URL": "amqp://runyard:n33dle-broker@broker/v",
    "DATABASE_URL": "postgresql://runyard:n33dle-database@db/runyard",
    "RATELIMIT_URL": "redis://:n33dle-limits@valkey/0",
    "SIGNING_KEY": "n33dle-" + "k" * 32,
    "STORAGE_URL": "s3://blobs/runyard",
}
#: A worker keeps no records, counts no requests and signs no links.
NEEDED = {"api": set(SHARED), "worker": {"AMQP_URL", "STORAGE_URL"}}


@pytest.fixture
def environ(monkeypatch):
    """An environment without settings."""
    for name in list(os.environ):
        if name.upper() in SETTINGS:
            monkeypatch.delenv(name)
    return monkeypatch


def give(environ, **variables):
    for name, value in variables.items():
        environ.setenv(name, value)


def refused(environ, **variables):
    give(environ, **variables)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_the_roles_are_those_of_the_setting():
    assert list(ROLES) == list(Settings.model_fields["role"].annotation.__args__)
    assert role_of({}) is role_of({"ROLE": ""}) is ALL
    assert [(role.has_api, role.has_worker) for role in ROLES.values()] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    with pytest.raises(ValueError, match="ROLE=both: must be one of all, api, worker"):
        role_of({"ROLE": "both"})


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_machine_of_several_is_refused_with_all_that_it_lacks_in_one_message(environ, role):
    said = refused(environ, ROLE=role)
    assert said.startswith(f"ROLE={role} is for one of several machines")
    assert {name for name in SHARED if f"{name}=" in said or f"{name} (" in said} == NEEDED[role]
    assert "; " not in said, "it is one line wherever problems are shown line by line"


@pytest.mark.parametrize(
    ("role", "missing"), [(role, name) for role, names in NEEDED.items() for name in sorted(names)]
)
def test_each_shared_part_is_needed(environ, role, missing):
    others = {name: value for name, value in SHARED.items() if name != missing}
    said = refused(environ, ROLE=role, **others)
    assert [name for name in SHARED if name in said] == [missing]
    assert "n33dle" not in said


@pytest.mark.parametrize("role", list(ROLES))
def test_with_everything_shared_each_role_may_start_and_is_not_warned(environ, role, tmp_path):
    give(environ, ROLE=role, **SHARED)
    layered, settings = apply_file(tmp_path)
    assert settings.parts is ROLES[role]
    assert layered.warnings == ()


def test_sqlite_cannot_be_shared(environ):
    given = SHARED | {"DATABASE_URL": "sqlite:////srv/shared/runyard.sqlite"}
    assert "DATABASE_URL=postgresql://" in refused(environ, ROLE="api", **given)


def test_each_process_of_a_role_may_start_with_the_variables_that_it_is_given(environ):
    give(environ, ROLE="api", **SHARED)
    given = {reader: environment_of(reader, load_settings(), os.environ) for reader in ("api", "worker")}
    for reader, variables in given.items():
        for name in SHARED:
            environ.delenv(name, raising=False)
        give(environ, **{**variables, "ROLE": reader})
        assert load_settings().role == reader
    assert not {"DATABASE_URL", "SIGNING_KEY", "RATELIMIT_URL"} & set(given["worker"])


def test_a_whole_service_needs_nothing_and_is_warned_if_it_has_a_broker_that_it_cannot_share(environ, tmp_path):
    assert apply_file(tmp_path)[0].warnings == ()
    give(environ, AMQP_URL=SHARED["AMQP_URL"], STORAGE_URL=SHARED["STORAGE_URL"])
    (warning,) = apply_file(tmp_path)[0].warnings
    assert warning.startswith("AMQP_URL with ROLE=all")
    assert [name for name in SHARED if f"{name}=" in warning or f"{name} (" in warning] == [
        "DATABASE_URL",
        "RATELIMIT_URL",
        "SIGNING_KEY",
    ]
    assert "n33dle" not in warning
    assert missing_shared(Settings(), ALL)


def test_the_role_may_be_in_the_file_and_its_key_is_named(environ, tmp_path):
    path = tmp_path / "runyard.toml"
    path.write_text('role = "worker"\n')
    with pytest.raises(SettingsError, match="AMQP_URL") as caught:
        apply_file(tmp_path)
    assert f"(role in {path})" in str(caught.value)
    path.write_text('role = "wroker"\n')
    with pytest.raises(SettingsError, match="nearest: worker"):
        apply_file(tmp_path)
