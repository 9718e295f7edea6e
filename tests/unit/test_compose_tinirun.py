"""deploy/tinirun/docker-compose.yml, as data: as confined as docker-compose.yml, and published on loopback alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from config.environment import without_settings_of_others
from config.other_names import OTHER_NAMES, add_settings_of_other_names
from config.variables import find_other
from web.demo.program import LANGUAGES
from web.demo.settings import read_settings

REPO = Path(__file__).resolve().parents[2]
FILE = REPO / "deploy/tinirun/docker-compose.yml"
PROJECT = yaml.safe_load(FILE.read_text())
SERVICES = PROJECT["services"]
BASE = yaml.safe_load((REPO / "docker-compose.yml").read_text())["services"]
#: Where each differs from docker-compose.yml.
DIFFERS = {
    "api": {"build", "environment", "depends_on", "networks"},
    "worker": {"build", "environment"},
    "egress": {"build"},
}
KEY = "${RUNNER_API_KEY:-api-key-123}"


def plain(environment):
    """The values with each variable's default."""
    return {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)) for name, value in environment.items()}


@pytest.mark.parametrize("name", DIFFERS)
def test_the_parts_of_the_service_are_those_of_the_other_file(name):
    assert SERVICES[name].keys() ^ BASE[name].keys() <= DIFFERS[name]
    for key in SERVICES[name].keys() - DIFFERS[name]:
        assert SERVICES[name][key] == BASE[name][key], key
    assert SERVICES[name]["build"] == {**BASE[name]["build"], "context": "../.."}


def test_a_container_is_given_only_settings_that_its_process_reads():
    for name in DIFFERS:
        given = SERVICES[name]["environment"]
        own = {entry: value for entry, value in given.items() if entry not in OTHER_NAMES}
        assert without_settings_of_others(name, own) == own
    assert set(SERVICES["api"]["environment"]) >= set(OTHER_NAMES), "each of tinirun's names is used"
    assert set(SERVICES["worker"]["environment"]) & set(OTHER_NAMES) == {
        "RUNNER_LOG_LEVEL",
        "RUNNER_CLEANUP_INTERVAL",
    }


def test_the_key_is_the_one_of_the_page_in_both_and_nowhere_else():
    holders = {
        name: given
        for name, service in SERVICES.items()
        if KEY in (given := service.get("environment", {})).values()
    }
    assert set(holders) == {"api", "demo"}
    environ = plain(holders["api"])
    add_settings_of_other_names(environ)
    assert (environ["API_KEYS"], environ["PORT"], environ["LOG_LEVEL"]) == ("api-key-123:tinirun", "8080", "INFO")
    assert read_settings(plain(holders["demo"])).key == "api-key-123"


def test_ports_are_on_loopback_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:${PORT:-8080}:8080"], "demo": ["127.0.0.1:${DEMO_PORT:-3000}:3000"]}


@pytest.mark.parametrize("name", ["demo", "valkey"])
def test_the_new_parts_have_no_power(name):
    part = SERVICES[name]
    assert (part["read_only"], part["cap_drop"]) == (True, ["ALL"])
    assert part["security_opt"] == ["no-new-privileges:true"]
    assert not {"volumes", "pid", "cap_add", "privileged"} & set(part)
    assert part["mem_limit"]
    assert part["pids_limit"]


def test_the_demo_reaches_the_api_and_only_the_api_reaches_the_buckets():
    assert SERVICES["valkey"]["networks"] == ["store"]
    assert PROJECT["networks"]["store"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "store" in service.get("networks", [])} == {
        "api",
        "valkey",
    }
    assert SERVICES["demo"]["networks"] == ["front"]
    dockerfile = (REPO / "deploy/docker/Dockerfile").read_text()
    assert "\nFROM service AS demo\nUSER 65534:65534\n" in dockerfile
    assert SERVICES["valkey"]["user"] == "65534:65534"


def test_every_language_of_the_contract_has_its_image_built_with_the_others():
    ours = {"node" if lang == "javascript" else lang for lang in LANGUAGES}
    runners = {name.removeprefix("runner-"): service for name, service in SERVICES.items() if "runner-" in name}
    assert set(runners) == ours
    for name, runner in runners.items():
        assert "profiles" not in runner
        expected = {key: value for key, value in BASE[f"runner-{name}"].items() if key not in ("profiles", "build")}
        assert {key: value for key, value in runner.items() if key != "build"} == expected
        assert runner["build"]["args"]["LANGUAGE"] == name
    assert set(plain(SERVICES["worker"]["environment"])["LANGUAGES"].split(",")) == ours


def test_the_demo_is_given_no_variable_that_it_does_not_read():
    given = SERVICES["demo"]["environment"]
    text = (REPO / "web/demo/settings.py").read_text()
    assert all(f'"{name}"' in text for name in given)
    assert not any(find_other(name) for name in given)
