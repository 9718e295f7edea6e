"""What the service says of its walls: names and ok or fail, nothing else."""

from __future__ import annotations

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
    assert layers.keys() <= REQUIRED | {"apparmor", "build_directory"}
    assert set(checks.values()) == {"ok"}


def test_health_says_the_same(service):
    health, ready = (service.get(path, token=None).body["checks"] for path in ("/v1/health", "/readyz"))
    assert health.keys() == ready.keys()
