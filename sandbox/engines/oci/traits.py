"""What one OCI runtime does and another does not, as far as the engine has to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traits:
    """The defaults are crun's.

    `sets_rlimits`: it puts the configuration's resource limits in force; otherwise `start` sees to them.
    """

    sets_rlimits: bool = True
