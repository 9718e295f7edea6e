"""The packages of a run or session, as a layer beneath its root."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ReadyLayer:
    """A layer that stays while it is held: its files are those of the root directory, with /opt/packages."""

    id: str
    files: Path
    packages: tuple[Any, ...]


class PackageLayers(Protocol):
    """Provides layers."""

    def ready(
        self,
        *,
        key: str,
        language: str,
        packages: tuple[str, ...],
        on_output: Callable[[str], None],
        patience_s: float,
    ) -> AbstractContextManager[ReadyLayer]:
        """Provide the layer with these packages. Raises PackagesFailed."""
