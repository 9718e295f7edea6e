"""The failures of a build that its client is told."""

from __future__ import annotations

from typing import Literal

FailureCode = Literal["package_not_found", "package_build_failed"]


class PackagesFailed(Exception):
    """The packages of a run cannot be provided. `index` is the entry at fault, None if it is not one alone."""

    def __init__(self, code: FailureCode, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.index = index
