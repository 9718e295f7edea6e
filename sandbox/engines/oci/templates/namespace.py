"""The user namespace of the templates, and what a kernel's quotas of users are worth beneath it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from sandbox.engines.confinement import IDS_PER_SLOT
from sandbox.engines.oci.namespace_maker import make_user_namespace
from sandbox.engines.oci.slots import Slot, Slots

log = logging.getLogger(__name__)

INOTIFY = Path("/proc/sys/fs/inotify")
#: The kernel's own default for one user, and watches beyond what a program has been seen to take.
INSTANCES_EACH, WATCHES_EACH = 128, 8192
#: A sandbox is to make no further namespaces; its own are made by then.
NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time")


class TemplateNamespace:
    """One user namespace: 0..65535 are the templates' own ids, the slots' ranges follow.

    It belongs to an id that runs nothing: the last of the templates' own.
    """

    def __init__(self, slots: Slots) -> None:
        """Make the namespace, before the worker has threads: making one forks."""
        self.first_uid = slots.first_uid + slots.count * IDS_PER_SLOT
        self.mapping = [
            (0, self.first_uid, IDS_PER_SLOT),
            (IDS_PER_SLOT, slots.first_uid, slots.count * IDS_PER_SLOT),
        ]
        self.fd = make_user_namespace(self.first_uid + IDS_PER_SLOT - 1, self.mapping)
        self.quotas = _quotas(slots.count)

    def first_id(self, slot: Slot) -> int:
        """Return the first id of a slot as seen in this namespace."""
        return (slot.number + 1) * IDS_PER_SLOT


def _quotas(slots: int) -> dict[str, int]:
    """Set quotas in each sandbox's namespace, so that none uses up the limits of the common owner.

    These are counted up the tree of namespaces: every sandbox's, in the end, for the one id that owns the
    templates'. The host's bound upon a single user must therefore hold for all slots, and is raised to that.
    """
    instances = _shared(INOTIFY / "max_user_instances", INSTANCES_EACH, slots)
    watches = _shared(INOTIFY / "max_user_watches", WATCHES_EACH, slots)
    bounds = {f"max_{kind}_namespaces": 0 for kind in NAMESPACES}
    return bounds | {"max_inotify_instances": instances, "max_inotify_watches": watches}


def _shared(path: Path, each: int, slots: int) -> int:
    """Return a slot's part of a host limit, at most `each`, after raising that to serve all slots."""
    bound = int(path.read_text())
    if bound < each * slots:
        with contextlib.suppress(OSError):
            path.write_text(str(each * slots))
            bound = int(path.read_text())
        log.info("%s: %d for %d slots", path, bound, slots)
    return max(1, min(each, bound // slots))
