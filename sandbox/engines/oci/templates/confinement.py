"""Encode the confinement that a template's child applies to itself; the agent reads it
(`runners/agent/enclosure.py`).

Taken from the very data that a runtime's configuration is written from, so that the two cannot part.
"""

from __future__ import annotations

import resource

from sandbox.engines.confinement import OOM_SCORE_ADJ, READONLY_PATHS, RUN_UID, masked_proc, rlimits
from sandbox.engines.oci.spec import ROOT_MARK, mounts
from sandbox.frames import pack

FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
BIND = "bind"


def build_confinement(
    *,
    memory_bytes: int,
    build_bytes: int,
    seccomp: bytes,
    no_new_privileges: bool,
    quotas: dict[str, int],
    apparmor: str | None = None,
) -> bytes:
    """Pack the list. `seccomp` is the compiled filter, empty for none; `quotas` are bounds of /proc/sys/user;
    `apparmor` is the profile that the child changes to.
    """
    made = mounts(memory_bytes, build_bytes, own_devices=False)
    return pack(
        [
            _number(RUN_UID),
            _number(RUN_UID),
            b"1" if no_new_privileges else b"0",
            _number(OOM_SCORE_ADJ),
            pack(_mount(item["destination"], item["type"], item["source"], item["options"]) for item in made),
            pack(_relative(path) for path in masked_proc()),
            pack(_relative(path) for path in READONLY_PATHS),
            pack(
                pack([_number(getattr(resource, f"RLIMIT_{name}")), _number(bound)])
                for name, bound in rlimits().items()
            ),
            pack(pack([name.encode(), _number(bound)]) for name, bound in quotas.items()),
            seccomp,
            b"/work",
            (apparmor or "").encode(),
        ]
    )


def _number(value: int) -> bytes:
    return str(value).encode()


def _relative(path: str) -> bytes:
    return path.lstrip("/").encode()


def _mount(target: str, kind: str, source: str, options: list[str]) -> bytes:
    """Return one mount in the form of mount(2); the source of a bind mount is in the sandbox's own root."""
    flags = sum(FLAGS.get(option, 0) for option in options)
    data = ",".join(option for option in options if option not in FLAGS and option != BIND)
    if kind == BIND:
        kind, source = "", source.removeprefix(ROOT_MARK).lstrip("/")
    return pack([source.encode(), _relative(target), kind.encode(), _number(flags), data.encode()])
