"""Tell whether the machine is short of memory, so that nothing is kept that can be made again."""

from __future__ import annotations

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
#: Below this share of the machine's memory that is available, it is short.
SHORT_SHARE = 0.1


def is_memory_short(meminfo: Path = MEMINFO) -> bool:
    """Return whether little memory is available; see proc_meminfo(5). False if it is not known."""
    found: dict[str, int] = {}
    try:
        for line in meminfo.read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0])
        return found["MemAvailable"] < found["MemTotal"] * SHORT_SHARE
    except (OSError, ValueError, KeyError, IndexError):
        return False
