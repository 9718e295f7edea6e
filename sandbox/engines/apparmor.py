"""The AppArmor profiles of sandboxes and templates: required where the kernel has AppArmor, never taken on trust.

A daemon accepts the name of a profile that does not exist, a profile in complain mode confines nothing, and a
package may load another profile under the same name. So this service loads its own at each start, looks at the
kernel's list, and remembers the kernel's hash of both (`ProfileWatch`). The label itself is measured on each canary
(`sandbox.posture`), and each child of a template reads back its own.
"""

from __future__ import annotations

import logging
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox.engines import EngineUnusable
from sandbox.engines.confinement import apparmor_is_on

log = logging.getLogger(__name__)

PROFILE, TEMPLATE_PROFILE = "runyard-sandbox", "runyard-template"
PROFILES = Path(__file__).resolve().parents[2] / "apparmor"
SOURCE = PROFILES / PROFILE
KERNEL = Path("/sys/kernel/security/apparmor")
LOADED = KERNEL / "profiles"
#: One folder for each loaded profile, NAME.NUMBER, with its mode and a hash of its text: sha1 before Linux 6.8.
POLICY = KERNEL / "policy/profiles"
HASHES = ("sha256", "sha1")
STATUS = Path("/proc/self/status")
CAP_MAC_ADMIN = 33
PARSER = "apparmor_parser"
LOAD_TIMEOUT_S = 60
MEND = f"apt-get install apparmor, then apparmor_parser -r -W {SOURCE}"
#: Names that can stand in a profile's text without quotes. Another name has no template.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class TemplateProfiles:
    """The profile of a template, None where it must be unconfined, and the one to which its children change."""

    template: str | None
    sandbox: str


def load_own(wanted: str | None) -> None:
    """Load this service's profiles into the kernel, replacing those of the same names. Needs CAP_MAC_ADMIN.

    `wanted` is APPARMOR_PROFILE: a profile of the owner's own is not loaded here, the template's for it is. Does
    nothing on a kernel without AppArmor, where its list cannot be seen, or without the capability: then the parent
    of this process has loaded them. Raises EngineUnusable.
    """
    if not apparmor_is_on() or not LOADED.exists():
        return
    if not may_load():
        log.info("the AppArmor profiles are not loaded by this process: it lacks CAP_MAC_ADMIN")
        return
    if wanted is None:
        _load(PROFILE)
        _load(TEMPLATE_PROFILE)
    elif PLAIN_NAME.fullmatch(wanted):
        _load(_template_of(wanted), template_text(wanted))


def profile_in_force(wanted: str | None) -> str | None:
    """Return the profile to ask for: APPARMOR_PROFILE, or this service's own, loaded if need be.

    None on a kernel without AppArmor. If the kernel's list is not readable, the canary checks the name.
    Raises EngineUnusable if the kernel has AppArmor and the profile is not enforced.
    """
    if not apparmor_is_on():
        if wanted is not None:
            raise EngineUnusable(f"APPARMOR_PROFILE={wanted}: this kernel has no such profile loaded: no AppArmor")
        return None
    name = wanted or PROFILE
    if not LOADED.exists():  # in a container: the host has loaded it, or the canary's label shows that it has not
        log.warning("the kernel's list of AppArmor profiles cannot be seen", extra={"profile": name})
        return name
    if wanted is None and loaded_mode(name) != "enforce":
        _load(PROFILE)
    mode = loaded_mode(name)
    if mode != "enforce":
        found = "has no such profile loaded" if mode is None else f"has it in {mode} mode"
        mend = MEND if wanted is None else "load it with apparmor_parser, enforced"
        raise EngineUnusable(f"APPARMOR_PROFILE={name}: this kernel {found} -> {mend}")
    return name


def template_profiles(sandbox: str) -> TemplateProfiles:
    """Return the profiles of templates whose children run under `sandbox`. Raises EngineUnusable if there are
    none, with what to do.

    Under no_new_privs, which a template inherits from the worker, the kernel lets a confined process change only to
    a part of its own profile, an unconfined one to any. So where the worker is under it, templates are unconfined.
    """
    if has_no_new_privileges():
        log.warning("templates have no AppArmor profile: the worker was started with no_new_privs")
        return TemplateProfiles(None, sandbox)
    if not PLAIN_NAME.fullmatch(sandbox):
        raise EngineUnusable(f"APPARMOR_PROFILE={sandbox}: a template needs a name of letters, digits and _ . -")
    template = _template_of(sandbox)
    mode = loaded_mode(template)
    if LOADED.exists() and mode != "enforce":
        found = "is not loaded" if mode is None else f"is in {mode} mode"
        raise EngineUnusable(f"the AppArmor profile {template} {found} -> restart the service as root: it loads it")
    return TemplateProfiles(template, sandbox)


def profiles_in_use(wanted: str | None) -> list[str]:
    """Return the names of the profiles of sandboxes and templates; `wanted` is APPARMOR_PROFILE."""
    name = wanted or PROFILE
    return [name, _template_of(name)] if apparmor_is_on() else []


def template_text(sandbox: str) -> str:
    """Return the text of the template's profile whose children change to `sandbox`, under a name of its own."""
    text = (PROFILES / TEMPLATE_PROFILE).read_text()
    return text.replace(TEMPLATE_PROFILE, _template_of(sandbox)).replace(f"-> {PROFILE},", f"-> {sandbox},")


def _template_of(sandbox: str) -> str:
    return TEMPLATE_PROFILE if sandbox == PROFILE else f"{TEMPLATE_PROFILE}.{sandbox}"


def loaded_mode(name: str, text: str | None = None) -> str | None:
    """Return `enforce`, `complain`, …; None for a profile that is not loaded, or where the list cannot be seen.

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


def may_load() -> bool:
    """Return whether this process has CAP_MAC_ADMIN."""
    effective = next(line for line in STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_MAC_ADMIN & 1)


def has_no_new_privileges() -> bool:
    """Return whether this process has no_new_privs set, see PR_SET_NO_NEW_PRIVS(2const)."""
    return "\nNoNewPrivs:\t1\n" in STATUS.read_text()


class ProfileWatch:
    """Notices that a profile in use is removed, no longer enforced, or replaced by another of its name."""

    def __init__(self, names: list[str]) -> None:
        """Watch the loaded profiles `names`. Those that this process cannot read are not watched."""
        states = {name: _state(name) for name in names}
        self._states = {name: state for name, state in states.items() if state is not None}

    @property
    def watches(self) -> bool:
        """Return whether there is a profile to watch."""
        return bool(self._states)

    def problem(self) -> str | None:
        """Return the change of a profile since the start with its remedy, None while there is none."""
        for name, state in self._states.items():
            now = _state(name)
            if now == state:
                continue
            change = "is no longer loaded" if now is None else f"is in {now[0]} mode"
            if now is not None and now[0] == state[0]:
                change = "was replaced by another profile of the same name"
            mend = "find out who changed it; the service loads its own at each start"
            return f"the AppArmor profile {name} {change} -> {mend}"
        return None


def _state(name: str) -> tuple[str, str] | None:
    """Return the mode of a loaded profile and the kernel's hash of it; None if there is none to be seen."""
    for folder in POLICY.glob(f"{name}.*"):
        try:
            if (folder / "name").read_text().strip() != name:
                continue
            digest = next((path.read_text().strip() for kind in HASHES if (path := folder / kind).exists()), "")
            return (folder / "mode").read_text().strip(), digest
        except OSError:  # removed meanwhile
            continue
    return None


def _load(name: str, text: str | None = None) -> None:
    """Have the parser load a profile of PROFILES, or `text`, in place of one of that name.

    Raises EngineUnusable with its message and the remedy.
    """
    options = ["--replace"] if text is not None else ["--replace", "--write-cache", str(PROFILES / name)]
    try:
        done = subprocess.run(
            [PARSER, *options],
            input=text,
            capture_output=True,
            text=True,
            timeout=LOAD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise EngineUnusable(f"the AppArmor profile {name} cannot be loaded: {e} -> {MEND}") from e
    if done.returncode != 0:
        raise EngineUnusable(
            f"the AppArmor profile {name} cannot be loaded: {done.stderr.strip()[-300:]} -> {MEND}"
        )
    log.info("loaded the AppArmor profile", extra={"profile": name})
