"""Compare the kernel's status of a sandbox's PID 1 with the expected one, before a job is sent.

Every layer can fail open silently: a runtime may ignore a profile, a daemon may lack a feature. So the
effect is read, from /proc/PID/status, see proc_pid_status(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.engines import EngineError, NotConfined

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FILTERED = "2"
#: Only the lines that are looked at: there are sixty, and this is read for every sandbox.
_FACT = re.compile(rf"^({'|'.join(CAPABILITY_SETS)}|Uid|Gid|NoNewPrivs|Seccomp):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A sandbox as the host's kernel knows it: its PID 1 and all processes of its group, that one first.

    `uid` is the host's of the program; None where it is not the sandbox's own (gVisor).
    """

    pid: int
    processes: tuple[int, ...]
    uid: int | None


@dataclass(frozen=True, slots=True)
class ExpectedStatus:
    """`uid` is the host's; a relaxed sandbox has neither `seccomp` nor `no_new_privileges`.

    `apparmor` is the profile, None on a kernel without AppArmor.
    """

    uid: int
    seccomp: bool = True
    no_new_privileges: bool = True
    apparmor: str | None = None

    @classmethod
    def of(cls, uid: int, *, relaxed: bool, apparmor: str | None) -> ExpectedStatus:
        """Return the expected status for a sandbox of an engine that is relaxed or not."""
        return cls(uid, seccomp=not relaxed, no_new_privileges=not relaxed, apparmor=apparmor)


def process_view(pid: int, group: list[int], expected: ExpectedStatus | None) -> ProcessView:
    """Return the view of a sandbox with that PID 1 and those processes. Raises EngineError if it is gone."""
    if pid not in group:
        raise EngineError("a sandbox ended before it was measured")
    beside = sorted(set(group) - {pid})
    return ProcessView(pid, (pid, *beside), expected.uid if expected is not None else None)


def check_posture(pid: int, expected: ExpectedStatus, text: str | None = None, label: str | None = None) -> None:
    """Hold PID 1 of a sandbox against what is expected; `text` is that of /proc/PID/status, `label` that of its
    AppArmor label, for tests.

    Raises NotConfined that names the missing layers, EngineError if the status cannot be read.
    """
    if text is None:
        text = _read(pid, "status")
    if label is None and expected.apparmor is not None:
        label = _read(pid, "attr/apparmor/current")
    facts = dict(_FACT.findall(text))
    wrong = [name for name in CAPABILITY_SETS if facts.get(name, "").strip("0") or name not in facts]
    wrong += [name for name in ("Uid", "Gid") if set(facts.get(name, "").split()) != {str(expected.uid)}]
    if expected.no_new_privileges and facts.get("NoNewPrivs") != "1":
        wrong.append("NoNewPrivs")
    if expected.seccomp and facts.get("Seccomp") != FILTERED:
        wrong.append("Seccomp")
    if expected.apparmor is not None and (label or "").strip("\n\0") != f"{expected.apparmor} (enforce)":
        wrong.append(f"AppArmor (its label is {(label or '').strip()})")
    if wrong:
        raise NotConfined(f"a sandbox is not confined as it must be: {', '.join(wrong)}")


def _read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}") as file:
            return file.read()
    except OSError as e:
        raise EngineError(f"a sandbox cannot be measured: {e}") from e
