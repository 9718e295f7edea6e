"""Match versions with selectors as npm's `semver` does, which is what Piston's clients send.

A selector is alternatives between `||`, each a list of comparators that must all hold: `>=3 <4`, `^3.10`, `~1.2`,
`3.x`, `1.2 - 1.4`. A selector that cannot be read matches nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

#: Longer selectors are not read.
MAX_SELECTOR = 256
#: The largest number of a version.
_MOST = 2**53 - 1

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PART = rf"({_NUMBER}|[xX*])"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[a-zA-Z-][a-zA-Z0-9-]*)"
_PRERELEASE = rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))"
_BUILD = r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)"
_PARTIAL = rf"v?{_PART}(?:\.{_PART}(?:\.{_PART}{_PRERELEASE}?{_BUILD}?)?)?"

_HYPHEN = re.compile(rf"\s*{_PARTIAL}\s+-\s+{_PARTIAL}\s*", re.ASCII)
_COMPARATOR = re.compile(rf"(\^|~>?|[<>]?=?){_PARTIAL}", re.ASCII)
_SPACE_AFTER = re.compile(r"(\^|~>?|[<>]=?|=)\s+(?=[vxX*0-9])", re.ASCII)
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """A version: three numbers, and the identifiers of a prerelease."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Return the three numbers."""
        return self.major, self.minor, self.patch

    @property
    def order(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        """Return what versions are ordered by: a prerelease stands before its release."""
        identifiers = tuple(
            (False, int(text), "") if text.isdigit() else (True, 0, text) for text in self.prerelease
        )
        return self.numbers, not self.prerelease, identifiers

    def __str__(self) -> str:
        """Return it as it is written."""
        return ".".join(map(str, self.numbers)) + ("-" + ".".join(self.prerelease) if self.prerelease else "")


@dataclass(frozen=True, slots=True)
class _Bound:
    """One comparison: `sign` is one of `<`, `<=`, `>`, `>=`, `=`."""

    sign: str
    version: Version

    def holds(self, version: Version) -> bool:
        own, other = version.order, self.version.order
        match self.sign:
            case "<":
                return own < other
            case "<=":
                return own <= other
            case ">":
                return own > other
            case ">=":
                return own >= other
            case _:
                return own == other


class _Unreadable(ValueError):
    """A selector that is none."""


def installed_version(text: str) -> Version:
    """Return the version that a language's version text begins with; what is missing of its three numbers is 0."""
    found = _NUMBERS.search(text)
    numbers = [int(number) for number in found[0].split(".")] if found else []
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return Version(major, minor, patch)


def matches(version: Version, selector: str) -> bool:
    """Return whether a version is one of those that a selector names."""
    if len(selector) > MAX_SELECTOR:
        return False
    return any(_allows(bounds, version) for bounds in _alternatives(selector))


def _allows(bounds: tuple[_Bound, ...], version: Version) -> bool:
    if not all(bound.holds(version) for bound in bounds):
        return False
    if not version.prerelease:
        return True
    # A prerelease is taken only by a selector that names one of the same numbers.
    return any(bound.version.prerelease and bound.version.numbers == version.numbers for bound in bounds)


@lru_cache(maxsize=256)
def _alternatives(selector: str) -> tuple[tuple[_Bound, ...], ...]:
    """Return the bounds of each alternative; nothing for a selector that cannot be read."""
    try:
        return tuple(_bounds(part.strip()) for part in selector.split("||"))
    except _Unreadable:
        return ()


def _bounds(text: str) -> tuple[_Bound, ...]:
    """Return the bounds of one alternative. Raises _Unreadable."""
    if hyphen := _HYPHEN.fullmatch(text):
        ends = hyphen.groups()
        return (*_from(ends[:4]), *_to(ends[4:]))
    bounds: list[_Bound] = []
    for comparator in _SPACE_AFTER.sub(r"\1", text).split():
        found = _COMPARATOR.fullmatch(comparator)
        if found is None:
            raise _Unreadable
        parts = found.groups()
        bounds += _comparator(parts[0], parts[1:])
    return tuple(bounds)


_Parts = tuple[str | None, ...]


def _comparator(sign: str, parts: _Parts) -> tuple[_Bound, ...]:
    numbers = _numbers(parts)
    if sign.startswith("~"):
        return () if not numbers else _between(parts, 1 if len(numbers) == 1 else 2)
    if sign == "^":
        return () if not numbers else _between(parts, _caret_digits(numbers))
    if len(numbers) == 3:
        return (_Bound(sign or "=", _version(parts)),)
    if any(part is not None and part.isdigit() for part in parts[len(numbers) : 3]):
        raise _Unreadable  # a number after any number, as in `3.x.1`
    if not numbers:
        return (_Bound("<", Version(0, 0, 0, ("0",))),) if sign in ("<", ">") else ()
    least = _filled(numbers)
    match sign:
        case ">":
            return (_Bound(">=", _next(numbers, len(numbers))),)
        case ">=":
            return (_Bound(">=", least),)
        case "<":
            return (_Bound("<", _before(least)),)
        case "<=":
            return (_Bound("<", _next(numbers, len(numbers))),)
        case _:
            return _between(parts, len(numbers))


def _between(parts: _Parts, kept: int) -> tuple[_Bound, ...]:
    """Return the bounds from a version up to the next with other first `kept` numbers."""
    numbers = _numbers(parts)
    least = _version(parts) if len(numbers) == 3 else _filled(numbers)
    return _Bound(">=", least), _Bound("<", _before(_next(least.numbers, kept)))


def _caret_digits(numbers: tuple[int, ...]) -> int:
    """Return how many numbers stay the same under `^`: up to the first that is not 0."""
    first = next((at for at, number in enumerate(numbers) if number), len(numbers) - 1)
    return first + 1


def _from(parts: _Parts) -> tuple[_Bound, ...]:
    numbers = _numbers(parts)
    if not numbers:
        return ()
    return (_Bound(">=", _version(parts) if len(numbers) == 3 else _filled(numbers)),)


def _to(parts: _Parts) -> tuple[_Bound, ...]:
    numbers = _numbers(parts)
    if not numbers:
        return ()
    if len(numbers) == 3:
        return (_Bound("<=", _version(parts)),)
    return (_Bound("<", _before(_next(numbers, len(numbers)))),)


def _numbers(parts: _Parts) -> tuple[int, ...]:
    """Return the numbers before the first that is left out or any. Raises _Unreadable for one that is too large."""
    found: list[int] = []
    for part in parts[:3]:
        if part is None or part in "xX*":
            break
        found.append(int(part))
        if found[-1] > _MOST:
            raise _Unreadable
    return tuple(found)


def _version(parts: _Parts) -> Version:
    major, minor, patch = _numbers(parts)
    return Version(major, minor, patch, tuple(parts[3].split(".")) if parts[3] else ())


def _filled(numbers: tuple[int, ...]) -> Version:
    major, minor, patch = (*numbers, 0, 0)[:3]
    return Version(major, minor, patch)


def _next(numbers: tuple[int, ...], kept: int) -> Version:
    """Return the first version whose first `kept` numbers are higher."""
    return _filled((*numbers[: kept - 1], numbers[kept - 1] + 1))


def _before(version: Version) -> Version:
    """Return the least prerelease of a version: below it there is none of its prereleases."""
    return Version(*version.numbers, ("0",))
