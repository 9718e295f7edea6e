"""The compose file of several machines, as data: it agrees with the settings, and no secret has a value of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from config.environment import SETTINGS, is_secret, without_settings_of_others
from config.settings import Settings, load_settings
from config.variables import find_other
from sandbox.engines.confinement import IDS_PER_SLOT

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "deploy/scaled"
TEXT = (FOLDER / "docker-compose.yml").read_text()
PROJECT = yaml.safe_load(TEXT)
SERVICES = PROJECT["services"]
OURS = {"api-1": "api", "api-2": "api", "worker-1": "worker", "worker-2": "worker"}
#: The variable of each image that is not of this project, by its service.
IMAGES = {"rabbitmq": "RABBITMQ", "postgres": "POSTGRES", "valkey": "VALKEY", "storage": "S3", "nginx": "NGINX"}
SECRETS = {"RABBITMQ_PASSWORD", "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_PASSWORD", "API_KEYS", "SIGNING_KEY"}
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


def filled(value):
    """A value as compose would set it, with a password in each variable that has no default."""
    return VARIABLE.sub(lambda found: found[3] if found[2] == ":-" else "k" * 40, value)


def environment(name):
    return {key: filled(value) for key, value in SERVICES[name]["environment"].items()}


@pytest.mark.parametrize(("name", "part"), OURS.items())
def test_every_variable_is_known_and_read_by_that_process(name, part):
    given = SERVICES[name]["environment"]
    assert without_settings_of_others(part, given) == given
    for variable in given:
        facts = SETTINGS.get(variable) or find_other(variable)
        assert facts is not None, variable
        assert part in facts.readers or variable == "STATE_DIR", variable


@pytest.mark.parametrize(("name", "part"), OURS.items())
def test_the_settings_are_valid_for_the_role_and_share_all_that_it_must(name, part, monkeypatch):
    for variable in list(os.environ):
        if variable.upper() in SETTINGS:
            monkeypatch.delenv(variable)
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.role == part
    hosts = [host for host, _ in settings.amqp_address.hosts]
    assert all(set(SERVICES[name]["networks"]) & set(SERVICES[host]["networks"]) for host in hosts)
    monkeypatch.delenv("STORAGE_URL")
    with pytest.raises(ValueError, match=f"ROLE={part} is for one of several machines"):
        load_settings()


def test_no_secret_has_a_value_of_its_own():
    used = {}
    for service in SERVICES.values():
        for name, value in service["environment"].items() if "environment" in service else ():
            for found in VARIABLE.finditer(str(value)):
                used.setdefault(found[1], set()).add(found[2])
            if (name in SETTINGS and is_secret(name)) or "PASS" in name or "SECRET" in name or "AUTH" in name:
                assert ":?" in value, name
    assert {name for name, kinds in used.items() if kinds == {":?"}} == SECRETS
    assert "dev_123" not in TEXT


def test_the_shared_secrets_are_one_for_both_sides():
    """The password that a client is given is that of its server."""
    for server, client, variable in (
        ("rabbitmq", "AMQP_URL", "RABBITMQ_PASSWORD"),
        ("postgres", "DATABASE_URL", "POSTGRES_PASSWORD"),
        ("valkey", "RATELIMIT_URL", "VALKEY_PASSWORD"),
        ("storage", "AWS_SECRET_ACCESS_KEY", "S3_PASSWORD"),
    ):
        assert f"${{{variable}:?" in str(SERVICES[server]["environment"])
        assert f"${{{variable}:?" in SERVICES["api-1"]["environment"][client]
    assert SERVICES["api-1"]["environment"] == SERVICES["api-2"]["environment"]


def test_a_worker_reaches_the_broker_and_the_files_alone_and_holds_no_other_secret():
    for name in ("worker-1", "worker-2"):
        assert SERVICES[name]["networks"] == ["broker", "files"]
        assert not {"DATABASE_URL", "SIGNING_KEY", "RATELIMIT_URL", "API_KEYS"} & set(SERVICES[name]["environment"])
    members = {network: set() for network in PROJECT["networks"]}
    for name, service in SERVICES.items():
        for network in service["networks"]:
            members[network].add(name)
    workers, apis = {"worker-1", "worker-2"}, {"api-1", "api-2"}
    assert members == {
        "front": {"nginx", *apis},
        "broker": {"rabbitmq", *apis, *workers},
        "files": {"storage", "bucket", *apis, *workers},
        "records": {"postgres", "valkey", *apis},
    }
    assert {name for name, network in PROJECT["networks"].items() if network.get("internal")} == {
        "broker",
        "files",
        "records",
    }


def test_only_nginx_is_published_and_only_workers_hold_the_engine():
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "nginx": ["127.0.0.1:${PORT:-8080}:8080"]
    }
    holders = {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))}
    assert holders == {"worker-1", "worker-2"}


def test_two_workers_of_one_daemon_have_states_and_accounts_of_their_own():
    one, other = (environment(name) for name in ("worker-1", "worker-2"))
    assert one["STATE_DIR"] != other["STATE_DIR"]
    # Sessions, runs and a pool, and as many again under gVisor.
    sandboxes = 2 * (Settings.model_fields["max_sessions"].default + 4 * Settings.model_fields["max_runs"].default)
    assert abs(int(one["UID_BASE"]) - int(other["UID_BASE"])) > sandboxes * IDS_PER_SLOT
    for name in ("worker-1", "worker-2"):
        own = [volume for volume in SERVICES[name]["volumes"] if volume.startswith("worker-")]
        assert own == [f"{name}:{environment(name)['STATE_DIR']}"]


def test_every_image_is_a_variable_with_the_official_name_as_default():
    for name, image in IMAGES.items():
        variable, kind, default = VARIABLE.fullmatch(SERVICES[name]["image"]).groups()
        assert (variable, kind) == (f"{image}_IMAGE", ":-")
        assert "." not in default.partition(":")[0], "the default is of no registry by name"
    for name, part in OURS.items():
        assert SERVICES[name]["image"] == f"${{{part.upper()}_IMAGE:-runyard/{part}}}"


def test_the_api_trusts_the_network_of_nginx_and_owns_its_uploads():
    (subnet,) = (entry["subnet"] for entry in PROJECT["networks"]["front"]["ipam"]["config"])
    assert SERVICES["api-1"]["environment"]["TRUSTED_PROXIES"] == subnet
    uid = 0x7000_0000
    (uploads,) = (mount for mount in SERVICES["api-1"]["tmpfs"] if "uploads" in mount)
    assert f"uid={uid},gid={uid}," in uploads
    assert "mode=0700" in uploads


def test_nginx_finds_both_apis_by_one_name_and_passes_on_what_the_documentation_says():
    config = (FOLDER / "nginx.conf").read_text()
    (name, port) = re.search(r"set \$runyard_apis (\S+):(\d+);", config).groups()
    for api in ("api-1", "api-2"):
        assert SERVICES[api]["networks"]["front"]["aliases"] == [name]
        assert SERVICES[api]["environment"]["PORT"] == port
    documented = (REPO / "docs/nginx.md").read_text()
    own = {"proxy_pass http://runyard;", "proxy_next_upstream off;"}
    lines = {line.strip() for line in re.findall(r"^ *proxy_\w+ .*;$", documented, re.MULTILINE)}
    assert own < lines
    assert [line for line in lines - own if line not in config] == []


def test_nginx_repeats_nothing_that_may_not_be_repeated_and_logs_no_token():
    config = (FOLDER / "nginx.conf").read_text()
    repeated = re.findall(r"location (.*) \{[^}]*proxy_next_upstream (.*);", config)
    # `non_idempotent` would repeat a POST. Of the requests with GET those of one dialect run programs.
    assert repeated == [("/", "error timeout"), ("~ /api/run/", "off")]
    logged = re.search(r"log_format runyard (.*?);", config, re.DOTALL)[1]
    assert "$uri" in logged
    assert not set(re.findall(r"\$\w+", logged)) & {
        "$request",
        "$request_uri",
        "$args",
        "$query_string",
        "$http_referer",
    }
    assert re.findall(r"(?:access|error)_log .*", config) == [
        "access_log /var/log/nginx/access.log runyard;",
        "error_log /var/log/nginx/error.log crit;",
    ]


def test_the_buckets_have_no_power():
    valkey = SERVICES["valkey"]
    assert (valkey["user"], valkey["read_only"], valkey["cap_drop"]) == ("65534:65534", True, ["ALL"])
    assert valkey["security_opt"] == ["no-new-privileges:true"]
    assert "$$REDISCLI_AUTH" in str(
        valkey["command"]
    )  # the shell's, not that of compose, which is seen in `docker inspect`
