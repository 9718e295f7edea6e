"""The AppArmor profile of a sandbox: there wherever the kernel has AppArmor, and never taken on trust.

A daemon accepts the name of a profile that does not exist, and a profile in complain mode confines nothing. So the
kernel's own list is looked at; the label itself is measured on each canary (`sandbox.posture`).
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

from sandbox.engines import EngineUnusable
from sandbox.engines.confinement import apparmor_is_on

log = logging.getLogger(__name__)

PROFILE = "runyard-sandbox"
SOURCE = Path(__file__).resolve().parents[2] / "apparmor" / PROFILE
LOADED = Path("/sys/kernel/security/apparmor/profiles")
PARSER = "apparmor_parser"
LOAD_TIMEOUT_S = 60
MEND = f"apt-get install apparmor, then apparmor_parser -r -W {SOURCE}"


def profile_in_force(wanted: str | None) -> str | None:
    """The profile to ask for: APPARMOR_PROFILE, or this service's own, loaded if need be.

    None on a kernel without AppArmor. Where its list cannot be seen, the name is for the canary to judge.
    Raises EngineUnusable where it has it and the profile is not enforced.
    """
    if not apparmor_is_on():
        if wanted is not None:
            raise EngineUnusable(f"APPARMOR_PROFILE={wanted}: this kernel has no such profile loaded: no AppArmor")
        return None
    name = wanted or PROFILE
    if not LOADED.exists():  # in a container: the host has loaded it, or the canary's label says that it has not
        log.warning("the kernel's list of AppArmor profiles cannot be seen", extra={"profile": name})
        return name
    if wanted is None and loaded_mode(name) != "enforce":
        _load()
    mode = loaded_mode(name)
    if mode != "enforce":
        found = "has no such profile loaded" if mode is None else f"has it in {mode} mode"
        mend = MEND if wanted is None else "load it with apparmor_parser, enforced"
        raise EngineUnusable(f"APPARMOR_PROFILE={name}: this kernel {found} -> {mend}")
    return name


def loaded_mode(name: str, text: str | None = None) -> str | None:
    """`enforce`, `complain`, …; None for a profile that is not loaded, or where the list cannot be seen.

    `text` is that of the kernel's list, for tests.
    """
    if text is None:
        try:
            text = LOADED.read_text()
        except OSError:
            return None
    for line in text.splitlines():
        known, _, mode = line.rpartition(" ")
        if known == name:
            return mode.strip("()")
    return None


def _load() -> None:
    try:
        done = subprocess.run(
            [PARSER, "--replace", "--write-cache", str(SOURCE)],
            capture_output=True,
            text=True,
            timeout=LOAD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise EngineUnusable(f"the AppArmor profile {PROFILE} cannot be loaded: {e} -> {MEND}") from e
    if done.returncode != 0:
        raise EngineUnusable(
            f"the AppArmor profile {PROFILE} cannot be loaded: {done.stderr.strip()[-300:]} -> {MEND}"
        )
    log.info("loaded the AppArmor profile", extra={"profile": PROFILE})
