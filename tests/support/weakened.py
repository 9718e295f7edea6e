"""A worker whose sandboxes lack one layer: `python tests/support/weakened.py LAYER`, settings from the environment.

Each layer is taken away where the engine asks for it, as a runtime or a daemon would that silently ignores it. The
rest is the worker itself.
"""

from __future__ import annotations

import json
import os
import sys

import sandbox.engines.docker.engine as docker_engine
import sandbox.engines.oci.engine as oci_engine
import sandbox.engines.oci.rootfs as oci_rootfs
import sandbox.engines.oci.templates.boot as oci_template_boot
import sandbox.engines.oci.templates.confinement as oci_confinement
from sandbox.engines.cgroups import files
from sandbox.engines.syscalls import MS_RDONLY
from worker import __main__ as worker_main


def _without_namespace(kind):
    def weaken(spec):
        spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != kind]

    return weaken


def _without_user_namespace(spec):
    _without_namespace("user")(spec)
    _without_namespace("time")(spec)  # the worker may not make one for the host's own user namespace
    del spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]


def _set(*path, value):
    def weaken(spec):
        for name in path[:-1]:
            spec = spec[name]
        spec[path[-1]] = value

    return weaken


def _some_capability(spec):
    for kind in ("bounding", "permitted", "effective"):
        spec["process"]["capabilities"][kind] = ["CAP_NET_RAW"]


def _mount_of_the_host(spec):
    spec["mounts"].append(
        {
            "destination": "/srv",
            "type": "bind",
            "source": "/usr/share",
            "options": ["bind", "ro", "nosuid", "nodev"],
        }
    )


def _one_size(spec):
    work = next(entry for entry in spec["mounts"] if entry["destination"] == "/work")
    work["options"] = [option for option in work["options"] if not option.startswith(("size=", "nr_inodes="))]


def _work_with_setuid(spec):
    work = next(entry for entry in spec["mounts"] if entry["destination"] == "/work")
    work["options"].remove("nosuid")


OCI = {
    "user_namespace": _without_user_namespace,
    "identity": _set("process", "user", value={"uid": 1000, "gid": 1000, "additionalGids": [4]}),
    "capabilities": _some_capability,
    # Without it no filter can be put in force either: the runtime refuses that by itself.
    "no_new_privileges": lambda spec: (spec["process"].update(noNewPrivileges=False), spec["linux"].pop("seccomp")),
    "seccomp": lambda spec: spec["linux"].pop("seccomp"),
    "namespaces.network": _without_namespace("network"),
    "namespaces.ipc": _without_namespace("ipc"),
    "namespaces.uts": lambda spec: (_without_namespace("uts")(spec), spec.pop("hostname")),
    "namespaces.cgroup": _without_namespace("cgroup"),
    "mounts.host": _mount_of_the_host,
    "mounts.size": _one_size,
    "mounts.nosuid": _work_with_setuid,
    "masked": _set("linux", "maskedPaths", value=[]),
    "read_only": _set("linux", "readonlyPaths", value=[]),
    "oom": _set("process", "oomScoreAdj", value=0),
    "environment": lambda spec: spec["process"]["env"].append("LD_PRELOAD=/work/x.so"),
    "rlimits": _set("process", "rlimits", value=[]),
}
DOCKER = {
    "seccomp": lambda body: body["HostConfig"].update(SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]),
    # The profile leaves out calls that runc needs before it has dropped what it holds: without this, nothing starts.
    "no_new_privileges": lambda body: body["HostConfig"].update(SecurityOpt=["seccomp=unconfined"]),
    "capabilities": lambda body: body["HostConfig"].update(CapDrop=[], CapAdd=["NET_RAW"], Privileged=False),
    "root": lambda body: body["HostConfig"].update(ReadonlyRootfs=False),
    "masked": lambda body: body["HostConfig"].update(MaskedPaths=["/proc/kcore"]),
    "namespaces": lambda body: body["HostConfig"].update(IpcMode="host"),
    "mounts": lambda body: body["HostConfig"].update(Binds=["/usr/share:/srv:ro"]),
    "cgroup": lambda body: body["HostConfig"].update(Memory=0, MemorySwap=0),
}
#: What a template's children are told to put up, without one of its walls.
#: A child has no_new_privileges from its template, whatever the walls say.
WALLS = {
    "seccomp": lambda _: {"seccomp": b""},
    "masked": lambda walls: setattr(walls, "masked_proc", list),
    "read_only": lambda walls: setattr(walls, "READONLY_PATHS", ()),
    "oom": lambda walls: setattr(walls, "OOM_SCORE_ADJ", 0),
    "rlimits": lambda walls: setattr(walls, "rlimits", dict),
    "mounts.nosuid": lambda walls: walls.FLAGS.update(nosuid=0),
}
#: The kernel refuses such a mount: no child comes of the template at all.
UNFINISHED = {"mounts": lambda walls: walls.FLAGS.pop("nosuid")}


def weaken_template(layer: str) -> None:
    """Take a wall away from what is forked; containers keep theirs."""
    build = oci_confinement.build_confinement
    changed = (WALLS | UNFINISHED)[layer](oci_confinement)
    oci_template_boot.build_confinement = lambda **given: build(
        **given | (changed if isinstance(changed, dict) else {})
    )


def weaken(layer: str) -> None:
    """Take a layer away, from either engine."""
    kind, _, wall = layer.partition(":")
    if kind == "template":
        weaken_template(wall)
        return
    if layer == "user_namespace":
        # Outside of one a runtime cannot take from a program what the worker may not take: it would not start any.
        worker_main.drop_privileges = lambda: None
    if layer == "root":
        OCI["root"] = _set("root", "readonly", value=False)
        mount = oci_rootfs.mount

        def mount_writable(source, target, kind, flags, data=None):
            if kind == "overlay":
                above = [f"{os.path.dirname(target)}.{name}" for name in ("upper", "work")]
                for path in above:
                    os.mkdir(path)
                data = f"{data},upperdir={above[0]},workdir={above[1]}"
                flags &= ~MS_RDONLY
            mount(source, target, kind, flags, data)

        oci_rootfs.mount = mount_writable
    if layer.startswith("cgroup."):
        name = {"cgroup.memory": "memory", "cgroup.pids": "pids.max", "cgroup.cpu": "cfs_quota"}[layer]
        write = files.write
        files.write = lambda path, value: None if name in path.rpartition("/")[2] else write(path, value)
        return
    build, configure = oci_engine.spec.build_spec, docker_engine.container_config

    def build_spec(**arguments):
        spec = json.loads(build(**arguments))
        OCI[layer](spec)
        return json.dumps(spec)

    def container_config(*arguments, **named):
        body = configure(*arguments, **named)
        DOCKER[layer](body)
        return body

    oci_engine.spec.build_spec = build_spec
    docker_engine.container_config = container_config


if __name__ == "__main__":
    weaken(sys.argv[1])
    sys.exit(worker_main.main())
