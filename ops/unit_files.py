"""The files of the units: written by `make install`, brought back if it fails, removed by `make uninstall`.

Standard library only.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from config.roles import ALL, Role
from ops import install
from ops.installed import SERVICES, services_of

#: The broker is on the network, where the worker's unit lets it reach nothing.
BROKER_DROP_IN = "etc/systemd/system/runyard-worker.service.d/broker.conf"
BROKER_TEXT = (
    "# AMQP_URL is set: the worker reaches the broker, and storage in S3.\n"
    "[Service]\nPrivateNetwork=no\nIPAddressDeny=\n"
)
SOURCES = install.ROOT / "deploy/systemd"
#: The target of each file of SOURCES.
TARGETS = {
    **{name: f"etc/systemd/system/{name}" for name in SERVICES},
    "runyard.sysusers.conf": "etc/sysusers.d/runyard.conf",
    "runyard.tmpfiles.conf": "etc/tmpfiles.d/runyard.conf",
}
#: gVisor makes calls that the worker's unit refuses.
GVISOR_DROP_IN = "etc/systemd/system/runyard-worker.service.d/gvisor.conf"
GVISOR_TEXT = "# gVisor traces what it runs.\n[Service]\nSystemCallFilter=@debug\n"
ALL_TARGETS = (*TARGETS.values(), GVISOR_DROP_IN, BROKER_DROP_IN)


def write_files(root: Path, *, gvisor: bool, role: Role = ALL, broker: bool = False) -> bool:
    """Write units, account and directories of a role beneath `root`, and remove the units of others.

    Returns whether anything is other than it was.
    """
    left_out = set(SERVICES) - set(services_of(role))
    texts = {target: (SOURCES / name).read_text() for name, target in TARGETS.items() if name not in left_out}
    if gvisor and role.has_worker:
        texts[GVISOR_DROP_IN] = GVISOR_TEXT
    if broker and role.has_worker:
        texts[BROKER_DROP_IN] = BROKER_TEXT
    changed = False
    for target in {TARGETS[name] for name in left_out} | ({BROKER_DROP_IN} - set(texts)):
        changed = changed or (root / target).exists()
        (root / target).unlink(missing_ok=True)
    for target, text in texts.items():
        path = root / target
        if path.exists() and path.read_text() == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        changed = True
    return changed


def read_files(root: Path = Path("/")) -> dict[Path, str | None]:
    """Return the text of each file that `write_files` may write, None for one that is not there."""
    paths = [root / target for target in ALL_TARGETS]
    return {path: path.read_text() if path.exists() else None for path in paths}


def restore_files(texts: dict[Path, str | None]) -> None:
    """Bring files back to what `read_files` has returned."""
    for path, text in texts.items():
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def remove_files(root: Path) -> None:
    """Remove what `write_files` writes."""
    for target in ALL_TARGETS:
        with contextlib.suppress(FileNotFoundError):
            (root / target).unlink()
    with contextlib.suppress(OSError):
        (root / GVISOR_DROP_IN).parent.rmdir()
