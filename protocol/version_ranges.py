"""Tell whether an exact semantic version is within a range, as npm and cargo define ranges.

It is for bounds that an administrator wrote and versions that are pinned; the tools resolve all other requests.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Numbers = tuple[int, int, int]
#: The operator of a comparator without one: npm takes the version itself, cargo what is compatible with it.
Default = Literal["=", "^"]

_COMPARATOR = re.compile(
    r"(?P<op>\^|~>?|[<>]=?|=)?[vV]?(?P<parts>[0-9xX*]+(?:\.[0-9xX*]+){0,2})(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+.*)?"
)
_WILD = frozenset("xX*")


class SemanticVersion(NamedTuple):
    """A semantic version without its build metadata; `pre` is empty for a release."""

    numbers: Numbers
    pre: str = ""

    @property
    def order(self) -> tuple[Numbers, int, tuple[tuple[int, int, str], ...]]:
        """Return the key of the order of precedence: a pre-release comes before its release."""
        parts = self.pre.split(".") if self.pre else []
        identifiers = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
        return self.numbers, 0 if self.pre else 1, identifiers


class _Bounds(NamedTuple):
    """The versions of one comparator. None is no bound; `named` is the pre-release that it names."""

    least: SemanticVersion | None
    below: SemanticVersion | None
    after: SemanticVersion | None = None
    most: SemanticVersion | None = None
    named: SemanticVersion | None = None

    def admits(self, version: SemanticVersion) -> bool:
        order = version.order
        return (
            (self.least is None or order >= self.least.order)
            and (self.below is None or order < self.below.order)
            and (self.after is None or order > self.after.order)
            and (self.most is None or order <= self.most.order)
        )


def parse_version(text: str) -> SemanticVersion:
    """Return an exact version, with or without v in front. Raises ValueError."""
    found = _COMPARATOR.fullmatch(text)
    numbers = [] if found is None or found["op"] else found["parts"].split(".")
    if found is None or len(numbers) != len(SemanticVersion._fields) + 1:
        raise ValueError("is not an exact version")
    major, minor, patch = map(int, numbers)
    return SemanticVersion((major, minor, patch), found["pre"] or "")


def is_within(version: str, alternatives: list[list[str]], default: Default) -> bool:
    """Return whether an exact version satisfies all comparators of one of the alternatives. Raises ValueError."""
    exact = parse_version(version)
    return any(_satisfies(exact, [_bounds(text, default) for text in texts]) for texts in alternatives)


def _satisfies(version: SemanticVersion, comparators: list[_Bounds]) -> bool:
    if not all(bounds.admits(version) for bounds in comparators):
        return False
    # A pre-release is within a range only if the range names one of the same version.
    named = [bounds.named.numbers for bounds in comparators if bounds.named is not None]
    return not version.pre or version.numbers in named


def _bounds(text: str, default: Default) -> _Bounds:
    found = _COMPARATOR.fullmatch(text)
    if found is None:
        raise ValueError("is not a comparator of versions")
    parts = found["parts"].split(".")
    numbers = [int(part) for part in parts[: next((i for i, p in enumerate(parts) if p in _WILD), len(parts))]]
    is_wild = len(numbers) < len(parts)
    operator = found["op"] or ("=" if is_wild else default)
    if not numbers:
        return _Bounds(None, SemanticVersion((0, 0, 0))) if operator in "<>" else _Bounds(None, None)
    full = SemanticVersion(_filled(numbers), found["pre"] or "")
    named = full if full.pre else None
    next_one = SemanticVersion(_bumped(numbers, len(numbers) - 1))
    is_partial = len(numbers) < len(full.numbers)
    match operator:
        case ">=":
            return _Bounds(full, None, named=named)
        case "<":
            return _Bounds(None, full, named=named)
        case ">":
            return _Bounds(next_one, None) if is_partial else _Bounds(None, None, after=full, named=named)
        case "<=":
            return _Bounds(None, next_one) if is_partial else _Bounds(None, None, most=full, named=named)
        case "^":
            place = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
            return _Bounds(full, SemanticVersion(_bumped(numbers, place)), named=named)
        case "~" | "~>":
            return _Bounds(full, SemanticVersion(_bumped(numbers, min(1, len(numbers) - 1))), named=named)
        case _:
            return _Bounds(full, next_one) if is_partial else _Bounds(full, None, most=full, named=named)


def _filled(numbers: list[int]) -> Numbers:
    major, minor, patch = [*numbers, 0, 0][:3]
    return major, minor, patch


def _bumped(numbers: list[int], place: int) -> Numbers:
    """Return the first version whose number at that place is higher."""
    return _filled([*numbers[:place], numbers[place] + 1])
