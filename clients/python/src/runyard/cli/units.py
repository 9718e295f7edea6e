"""Durations and sizes as people write them, as click's parameter types."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import click

_AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)", re.IGNORECASE)
_MS = {"": 1000, "ms": 1, "s": 1000, "m": 60_000, "min": 60_000}
_MB = {"": 1, "m": 1, "mb": 1, "mib": 1, "g": 1024, "gb": 1024, "gib": 1024}


class Amount(click.ParamType):  # type: ignore[type-arg]  # generic in new ones only
    """A number with a unit, as a whole number of the smallest one."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Convert a value with a unit to the smallest unit. Smaller fractions are rejected."""
        if isinstance(value, int):
            return value
        found = _AMOUNT.fullmatch(str(value).strip())
        factor = self._units.get(found[2].lower()) if found else None
        if found is None or factor is None:
            self.fail(f"{value!r}: use a format like {self._example}", param, ctx)
        amount = Decimal(found[1]) * factor
        if amount < 1 or amount != int(amount):
            self.fail(f"{value!r}: must be a whole number of the smallest unit, at least 1", param, ctx)
        return int(amount)


MILLISECONDS = Amount("duration", _MS, "10 (seconds), 1.5s, 500ms or 1m")
MEBIBYTES = Amount("size", _MB, "256 (MiB), 512m or 1g")


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic in new ones only
    """`NAME=VALUE`, as a pair."""

    name = "name=value"

    def convert(
        self,
        value: Any,  # noqa: ANN401  # click's type
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str | None]:
        """Name and value; the value is None where there is no `=`."""
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not name:
            self.fail(f"{value!r}: use the format NAME=VALUE", param, ctx)
        return name, rest if equals else None


PAIR = Pair()
