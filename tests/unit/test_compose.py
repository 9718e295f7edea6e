"""docker-compose.yml, as data: who holds what, and that no secret has a value of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from config.environment import is_secret, without_settings_of_others
from config.settings import Settings
from ops import contained

REPO = Path(__file__).resolve().parents[2]
TEXT = (REPO / "docker-compose.yml").read_text()
PROJECT = yaml.safe_load(TEXT)
SERVICES = PROJECT["services"]


def test_no_secret_has_a_value_of_its_own():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if is_secret(name):
                assert re.match(r"\$\{" + name + r":[?-]", value), name
    assert "dev_123" not in re.sub(r"#.*", "", TEXT)


@pytest.mark.parametrize("name", ["api", "worker", "egress"])
def test_a_container_is_given_only_settings_that_its_process_reads(name):
    given = SERVICES[name]["environment"]
    assert without_settings_of_others(name, given) == given


def test_only_the_worker_has_the_engine_and_only_the_api_a_port():
    holders = {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))}
    assert holders == {"worker"}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])


def test_every_language_has_a_runner_behind_the_profile():
    languages = {path.parent.name for path in (REPO / "runners").glob("*/runner.toml")}
    runners = {name.removeprefix("runner-"): service for name, service in SERVICES.items() if "runner-" in name}
    assert set(runners) == languages
    for language, service in runners.items():
        assert service["profiles"] == ["runners"]
        assert service["build"]["args"]["LANGUAGE"] == language
        assert service["image"] == contained.IMAGE.format(language=language)


def test_the_api_runs_as_who_the_worker_expects():
    dockerfile = (REPO / "deploy" / "docker" / "Dockerfile").read_text()
    uid = Settings(state_dir=Path("/var/lib/runyard"), api_keys="a:b").api_uid
    assert f"\nUSER {uid}:{uid}\n" in dockerfile
    assert f"-o {uid} -g {uid} " in dockerfile
    assert f"\nUSER {uid + 1}:{uid + 1}\n" in dockerfile


def test_the_egress_process_has_a_network_and_nothing_else():
    egress = SERVICES["egress"]
    assert egress["profiles"] == ["egress"]
    assert egress["cap_drop"] == ["ALL"]
    assert egress["read_only"]
    assert egress["volumes"] == ["egress:/var/lib/runyard/run/egress"]
    assert "network_mode" not in egress
    assert SERVICES["worker"]["network_mode"] == "none"
    holders = {name for name, service in SERVICES.items() if "egress:" in str(service.get("volumes"))}
    assert holders == {"worker", "egress"}


def test_every_room_of_the_wheel_is_copied():
    import tomllib

    dockerfile = (REPO / "deploy" / "docker" / "Dockerfile").read_text()
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    kept = (REPO / ".dockerignore").read_text().splitlines()
    for room in wheel["packages"]:
        assert f"COPY {room} /build/{room}\n" in dockerfile
        assert f"!{room}" in kept


@pytest.mark.parametrize("what", ["api", "worker"])
def test_what_cannot_be_is_said(what, monkeypatch, capsys):
    monkeypatch.setenv("MAX_RUNS", "0")
    monkeypatch.setattr("sys.argv", ["contained", what])
    assert contained.main() == contained.EX_CONFIG
    assert "MAX_RUNS" in capsys.readouterr().err


BUILT, LOADING = [{"id": "python", "ready": True}], [{"id": "python", "ready": False}]


@pytest.mark.parametrize(
    ("languages", "usable", "failing", "healthy"),
    [
        (LOADING, False, [], True),
        (BUILT, True, [], True),
        (BUILT, True, ["python/container"], True),
        (BUILT, False, [], False),  # nothing has failed twice, and nothing has started
        (BUILT, False, ["python"], False),
        ([*BUILT, {"id": "bash", "ready": True}], True, ["bash"], False),
    ],
)
def test_a_worker_is_healthy_if_it_can_make_sandboxes_of_what_is_built(languages, usable, failing, healthy):
    status = {"languages": languages, "sandboxes": {"usable": usable, "failing": failing}}
    assert contained.has_sandboxes(status) is healthy


def test_a_worker_that_says_nothing_of_languages_is_not_healthy():
    assert not contained.has_sandboxes({})
