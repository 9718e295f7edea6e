"""The use of a session as its control group counts it, read once while the session is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.limits import MIB

if TYPE_CHECKING:
    from sandbox.engines import Sandbox
    from sandbox.engines.work_disk import WorkDisk
    from sandbox.sessions.power import Power


class GroupUsage:
    """Reads memory, disk and processor time. A frozen session changes none of them."""

    def __init__(self, power: Power) -> None:
        self._power = power
        #: The reading of a frozen session, and the count of freezes that it is of.
        self._kept: tuple[int, dict[str, int]] | None = None

    def read(self, sandbox: Sandbox, disk: WorkDisk | None) -> dict[str, int]:
        """Return `memory_mb disk_mb cpu_ms`. Raises EngineError, OSError."""
        power = self._power
        freezes, was_frozen = power.freezes, power.is_frozen
        kept = self._kept
        if was_frozen and kept is not None and kept[0] == freezes:
            return kept[1]
        stats = sandbox.stats()
        disk_bytes = 0 if disk is None else disk.used_bytes()
        used = {
            "memory_mb": -(-stats.memory_peak_bytes // MIB),
            "disk_mb": -(-disk_bytes // MIB),
            "cpu_ms": round(stats.cpu_ns / 1e6),
        }
        is_at_rest = was_frozen and power.is_frozen and power.freezes == freezes  # all the while
        self._kept = (freezes, used) if is_at_rest else None
        return used
