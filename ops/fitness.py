"""Check whether this account and this machine can start a service. Standard library only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from config.roles import role_of
from ops import checks, containers, host
from ops.install import InstallError
from ops.state import DEFAULT_STATE_DIR, directory_problem


def check_account() -> None:
    """Check that this account may start a service. Raises InstallError."""
    if os.geteuid() != 0:
        raise InstallError("the service must be started as root: it creates namespaces and control groups")
    if platform.machine() != "x86_64":
        raise InstallError(f"only x86-64 is supported; this is {platform.machine()}")


def check_role() -> None:
    """Check the value of ROLE in this process's environment. Raises InstallError."""
    try:
        role_of(os.environ)
    except ValueError as e:
        raise InstallError(str(e)) from e


def check_machine() -> None:
    """Check that this machine can run the service. Raises InstallError with each missing part and its remedy."""
    check_account()
    if role_of(os.environ).has_worker and os.environ.get("ENGINE", "auto") in {"", "auto", "oci"}:
        _check_kernel()
    check_state_dir()


def check_state_dir() -> None:
    """Check that STATE_DIR can be used. Raises InstallError."""
    problem = directory_problem(Path(os.environ.get("STATE_DIR") or DEFAULT_STATE_DIR))
    if problem:
        raise InstallError(problem)


def _check_kernel() -> None:
    """Check the kernel requirements of the engine oci. Raises InstallError with each missing one and its remedy."""
    if os.environ.get("ENGINE") != "oci" and containers.version() is not None:
        return  # a Docker daemon may serve instead
    host.prepare()  # controllers that only have to be mounted are not missing
    missing = [check for check in checks.machine_checks() if check.required and not check.ok]
    if missing:
        lines = "\n".join(f"    {check.name}: {check.detail} -> {check.mend}" for check in missing)
        raise InstallError(f"this machine cannot run sandboxes:\n{lines}")
