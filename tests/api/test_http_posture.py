"""What the service says of its walls: names and ok or fail, nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import opened, statuses
from tests.support.workers import pids, the_worker
from worker.privileges import KEPT

REQUIRED = {
    "user_namespace",
    "identity",
    "capabilities",
    "no_new_privileges",
    "seccomp",
    "namespaces",
    "root",
    "mounts",
    "masked",
    "read_only",
    "cgroup",
    "rlimits",
    "network",
    "oom",
    "descriptors",
    "environment",
}


def test_readyz_names_every_required_layer(service):
    reply = service.get("/readyz", token=None)
    assert reply.status == 200
    checks = reply.body["checks"]
    assert checks["posture"] == "ok"
    layers = {name.removeprefix("posture."): state for name, state in checks.items() if name.startswith("posture.")}
    assert layers.keys() >= REQUIRED
    assert layers.keys() <= REQUIRED | {"apparmor", "build_directory", "gvisor"}
    assert set(checks.values()) == {"ok"}


def test_health_says_the_same(service):
    health, ready = (service.get(path, token=None).body["checks"] for path in ("/v1/health", "/readyz"))
    assert health.keys() == ready.keys()


def test_api_has_no_rights_no_groups_and_no_engine(service):
    for pid in pids(service, "api"):
        for status in statuses(pid):
            assert "0" not in status["Uid"].split() + status["Gid"].split()
            assert status["Groups"] == ""
            assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
            assert status["NoNewPrivs"] == "1"
        assert not [path for path in opened(pid) if "docker" in path or "/sys/fs/cgroup" in path]
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"DOCKER_HOST=" not in environment


def test_worker_has_the_fewest_capabilities_that_work(service):
    kept = sum(1 << number for number, _ in KEPT.values())
    pid = the_worker(service)
    for status in statuses(pid):
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(status[name], 16) & ~kept == 0, name
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["NoNewPrivs"] == "1"


def test_api_can_write_only_what_is_its_own(service):
    """Root makes, changes and deletes nothing in these, whatever api puts there."""
    uid = int(next(statuses(pids(service, "api")[0]))["Uid"].split()[0])
    own = {path.name for path in service.state.iterdir() if path.lstat().st_uid == uid}
    assert own == {"api", "db"}
    storage = {path.name: path.lstat() for path in (service.state / "storage").iterdir()}
    assert (storage["uploads"].st_uid, storage["artifacts"].st_uid) == (uid, 0)
    assert storage["artifacts"].st_mode & 0o022 == 0
