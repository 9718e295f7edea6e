"""docker-compose.yml as it stands, on a Docker daemon of the tests' own: built, started, used, taken down."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.composed import (
    ADMIN_TOKEN,
    IN_CONTAINER,
    NEEDS_DOCKER,
    NOTHING,
    Composed,
    base_image,
    compose_daemon,
    stage,
)
from tests.support.egress_servers import WebServer
from tests.support.registries import npm_package, package_registry
from tests.support.workers import until

SETTINGS_WITHOUT_DEFAULT = ("API_KEYS", "SIGNING_KEY")
pytestmark = [NEEDS_DOCKER, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def composed(service):
    with compose_daemon(service.state) as daemon, tempfile.TemporaryDirectory() as scratch:
        base = base_image(daemon, service.images)
        project = Composed(daemon, stage(Path(scratch)), base, type(service))
        project.call("down", "-v", "-t", "10")
        project.call("build", "worker", "api", "runner-bash")
        try:
            project.call("up", "-d", "--no-build")
            project.wait()
            yield project
        finally:
            project.call("down", "-v", "-t", "30")
        assert project.left() == NOTHING


def test_a_run_from_end_to_end(composed):
    service = composed.service
    run = service.run("bash", "echo hello; echo kept > outputs/kept.txt; df -k --output=size /work | tail -1",
                      limits={"memory_mb": 512, "pids": 32})  # fmt: skip
    assert (run["status"], run["stdout"].split()) == ("succeeded", ["hello", str(256 * 1024)])
    assert (run["isolation"]["engine"], run["isolation"]["source"]) == ("docker", "pool")
    assert run["usage"]["max_rss_mb"] > 0
    (artifact,) = run["artifacts"]
    with urllib.request.urlopen(artifact["url"], timeout=30) as reply:
        assert reply.read() == b"kept\n"
    assert service.get(f"/v1/runs/{run['id']}").body["status"] == "succeeded"


def test_limits_hold_though_control_groups_can_only_be_read(composed):
    greedy = composed.service.run("bash", "x=$(head -c 300000000 /dev/zero | tr '\\0' x)", limits={"memory_mb": 64})
    assert (greedy["status"], greedy["oom_killed"]) in {("oom", True), ("failed", True), ("succeeded", True)}
    slow = composed.service.run("bash", "sleep 20", limits={"timeout_ms": 300})
    assert slow["status"] == "timeout"
    status, output = composed.inside("worker", "touch /sys/fs/cgroup/memory/x /sys/fs/cgroup/x")
    assert status != 0
    assert output.count("Read-only file system") == 2 or "No such file" in output


def test_the_api_has_no_power(composed):
    api = composed.container("api")
    host = api["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"], host["Privileged"]) == (
        True,
        ["ALL"],
        None,
        False,
    )
    assert host["PidMode"] == ""
    assert api["Config"]["User"].split(":")[0] not in {"", "0", "root"}
    assert {binding["HostIp"] for bindings in host["PortBindings"].values() for binding in bindings} == {
        "127.0.0.1"
    }
    assert not [mount for mount in api["Mounts"] if "docker" in mount["Destination"]]
    bound = [(mount["Destination"], mount["RW"]) for mount in api["Mounts"] if mount["Type"] == "bind"]
    assert bound == [(IN_CONTAINER, False)]
    socket_volume = next(mount for mount in api["Mounts"] if mount["Destination"] == "/var/lib/runyard/run")
    assert socket_volume["RW"] is False
    _, status = composed.inside("api", "grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/1/status")
    assert [line.split()[1].strip("0") for line in status.splitlines()] == ["", "", "1"]
    assert composed.inside("api", "touch /x /var/lib/x")[0] != 0


def test_only_the_worker_holds_the_engine(composed):
    worker = composed.container("worker")
    assert "/var/run/docker.sock" in {mount["Destination"] for mount in worker["Mounts"]}
    assert (worker["HostConfig"]["NetworkMode"], worker["HostConfig"]["PidMode"]) == ("none", "host")
    assert worker["HostConfig"]["Privileged"] is False
    assert not worker["HostConfig"]["PortBindings"]
    environment = {entry.partition("=")[0] for entry in worker["Config"]["Env"]}
    assert not environment & set(SETTINGS_WITHOUT_DEFAULT)


def test_both_read_the_settings_file_that_is_mounted(composed):
    service = composed.service
    assert service.get("/v1/admin/keys", token=ADMIN_TOKEN).status == 200
    first = service.post("/v1/sessions", {"language": "bash"})
    assert first.status == 201, first.body
    second = service.post("/v1/sessions", {"language": "bash"})
    ran = service.post(f"/v1/sessions/{first.body['id']}/runs", {"code": "echo inside"})
    assert (second.status, second.body["error"]["code"]) == (503, "overloaded")
    assert (ran.status, ran.body["stdout"]) == (200, "inside\n")
    assert service.request("DELETE", f"/v1/sessions/{first.body['id']}").status == 200


def test_both_say_that_they_are_well(composed):
    deadline = time.monotonic() + 60
    while {composed.container(name)["State"]["Health"]["Status"] for name in ("api", "worker")} != {"healthy"}:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("name", SETTINGS_WITHOUT_DEFAULT)
def test_no_secret_has_a_default(composed, name):
    assert name in composed.call("config", without=name, check=False)
    assert "Missing mandatory value" in composed.call("config", without=name, check=False)


def this_machine(composed: Composed) -> str:
    """The address of this machine, as the containers see it."""
    (network,) = composed.container("api")["NetworkSettings"]["Networks"].values()
    return network["Gateway"]


def test_a_run_reaches_the_hosts_that_egress_permits_by_a_container_of_its_own(composed):
    """Comes late: the services are started again, with the profile `egress`."""
    address = this_machine(composed)
    web = WebServer(address)
    url, permitted = f"http://{address}:{web.server_port}/hello", f"{address}:{web.server_port}"
    composed.environment |= {"EGRESS": "on", "EGRESS_ALLOW": permitted, "EGRESS_PRIVATE": f"{address}/32"}
    try:
        composed.call("build", "egress")
        composed.call("--profile", "egress", "up", "-d", "--no-build")
        composed.wait()
        until(lambda: composed.container("egress")["State"]["Health"]["Status"] == "healthy", 60)
        code = f"exec 3<>/dev/tcp/127.0.0.1/3128\nprintf 'GET {url} HTTP/1.1\\r\\nHost: {permitted}\\r\\n\\r\\n' >&3\ncat <&3"
        ended = composed.service.run("bash", code, network={"allow": [permitted]})
        assert (ended["stdout"].endswith(f"hello from {web.server_port}\n"), ended["isolation"]["network"]) == (
            True,
            "proxy",
        ), ended
        egress = composed.container("egress")
        assert (egress["HostConfig"]["CapDrop"], egress["HostConfig"]["ReadonlyRootfs"]) == (["ALL"], True)
        assert [mount["Destination"] for mount in egress["Mounts"]] == ["/var/lib/runyard/run/egress"]
        assert not {entry.partition("=")[0] for entry in egress["Config"]["Env"]} & set(SETTINGS_WITHOUT_DEFAULT)
        assert composed.container("worker")["HostConfig"]["NetworkMode"] == "none"
    finally:
        web.close()
        composed.call("--profile", "egress", "rm", "-fsv", "egress")


def test_packages_without_a_directory_of_the_host_are_refused_by_a_sentence(composed):
    said = composed.call("run", "--rm", "--no-deps", "-e", "PACKAGES=any", "worker", check=False)
    assert "PACKAGES: needs LAYERS_HOST_DIR in a container: a directory of the Docker daemon's host" in said


def test_a_run_has_packages_that_a_builder_got_through_the_egress_container(composed):
    """Comes last: the services are started again, with one more language."""
    layers = composed.folder / "layers"
    with package_registry(address=this_machine(composed)) as registry:
        registry.npm(npm_package("left", "1.0.0", {"index.js": "module.exports = 'here'\n"}))
        composed.environment |= {
            "EGRESS": "off",
            "PACKAGES": "any",
            "LAYERS_HOST_DIR": str(layers),
            "LANGUAGES": "bash,node",
            "NPM_URL": registry.npm_url,
        }
        try:
            composed.call("build", "runner-node")
            composed.call("--profile", "egress", "up", "-d", "--no-build")
            composed.wait()
            until(lambda: composed.container("egress")["State"]["Health"]["Status"] == "healthy", 60)
            body = {"language": "node", "code": "console.log(require('left'))", "packages": ["left"]}
            run = composed.service.post("/v1/runs", json=body, timeout=120).body
            assert run.get("stdout") == "here\n", run
            assert [path.name for path in (layers / "store").iterdir()] == [run["layer"]]
            asked = len(registry.asked)
            again = composed.service.post("/v1/runs", json=body, timeout=120).body
            assert (again["stdout"], again["layer"], len(registry.asked)) == (run["stdout"], run["layer"], asked)
            assert again["isolation"]["network"] == "none"
        finally:
            composed.call("--profile", "egress", "rm", "-fsv", "egress")
