"""Patterns of the packages that runs may ask for: a name, or the beginning of names and `*`, perhaps with a bound.

`requests`, `types-*`, `numpy>=1.20,<3` (pip); `@types/*`, `lodash@^4` (npm); `github.com/google/*`,
`golang.org/x/text@v0.14.0` (go); `serde`, `rand@^0.8` (cargo); `*` for every package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from packaging.specifiers import SpecifierSet

from protocol.packages import (
    FORMS,
    MAX_BOUNDED_BYTES,
    MAX_PACKAGE_BYTES,
    Ecosystem,
    PackageRequest,
    parse_package,
)
from protocol.version_ranges import is_within

#: The most patterns of one ecosystem.
MAX_PATTERNS = 1000
_ECOSYSTEMS: Final[dict[str, Ecosystem]] = {name: name for name in FORMS}
#: The beginnings of names, each as the names themselves are written.
_PREFIXES: Final[dict[Ecosystem, re.Pattern[str]]] = {
    "pip": re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*)?"),
    "npm": re.compile(r"(?:@[A-Za-z0-9][A-Za-z0-9._-]*/)?(?:[A-Za-z0-9][A-Za-z0-9._-]*)?"),
    "go": re.compile(r"(?:[a-z0-9][A-Za-z0-9._~/-]*)?"),
    "cargo": re.compile(r"(?:[A-Za-z][A-Za-z0-9_-]*)?"),
}


@dataclass(frozen=True, slots=True)
class PackagePattern:
    """One pattern. `name` is a package's identity, or with `is_prefix` its beginning; `bound` may be empty."""

    text: str
    ecosystem: Ecosystem
    name: str
    is_prefix: bool
    bound: str = ""

    def matches(self, request: PackageRequest) -> bool:
        """Return whether the pattern is for this package, of any version."""
        identity = request.identity
        return identity.startswith(self.name) if self.is_prefix else identity == self.name

    def permit(self, request: PackageRequest) -> PackageRequest | None:
        """Return the request with the bound added; None if the pattern does not permit it.

        A pinned version must be within the bound. The bound is added to every other request, so that the tool
        resolves it to a version within the bound, or to none.
        """
        if not self.matches(request):
            return None
        if not self.bound:
            return request
        bounded = _BOUNDED[self.ecosystem](request, self.bound)
        return bounded if bounded is not None and len(bounded.text) <= MAX_BOUNDED_BYTES else None


def parse_package_pattern(ecosystem: Ecosystem, text: str) -> PackagePattern:
    """Parse one pattern. Raises ValueError; its message begins in lower case and names no file."""
    if text.endswith("*") and not re.search(r"[@<>=~!,]", text[1:]):
        prefix = text[:-1]
        if len(text) > MAX_PACKAGE_BYTES or not _PREFIXES[ecosystem].fullmatch(prefix):
            raise ValueError("is not the beginning of a name and *")
        return PackagePattern(text, ecosystem, _normal_prefix(ecosystem, prefix), is_prefix=True)
    try:
        request = parse_package(ecosystem, text)
    except ValueError as e:
        raise ValueError(f"{e}; a pattern is the beginning of a name and *, or {FORMS[ecosystem]}") from e
    if request.extras:
        raise ValueError("must not have extras or features: a permitted package is permitted with all of them")
    if request.is_tag and not request.is_any_version:
        raise ValueError("must not have a tag, which may move to any version")
    bound = "" if request.is_any_version else request.specifier
    return PackagePattern(text, ecosystem, request.identity, is_prefix=False, bound=bound)


def permitted(patterns: Sequence[PackagePattern], request: PackageRequest) -> PackageRequest | None:
    """Return the request as the first pattern that permits it bounds it; None if none does."""
    return next((found for pattern in patterns if (found := pattern.permit(request)) is not None), None)


def of_ecosystem(patterns: Iterable[PackagePattern], ecosystem: Ecosystem) -> tuple[PackagePattern, ...]:
    """Return the patterns of one ecosystem."""
    return tuple(pattern for pattern in patterns if pattern.ecosystem == ecosystem)


def _normal_prefix(ecosystem: Ecosystem, prefix: str) -> str:
    if ecosystem == "pip":
        return re.sub(r"[-_.]+", "-", prefix).lower()
    return prefix.lower().replace("_", "-") if ecosystem == "cargo" else prefix


def _bounded_pip(request: PackageRequest, bound: str) -> PackageRequest | None:
    wide = SpecifierSet(bound)
    if request.version is not None:
        return request if wide.contains(request.version, prereleases=True) else None
    return replace(request, specifier=str(SpecifierSet(request.specifier) & wide))


def _bounded_npm(request: PackageRequest, bound: str) -> PackageRequest | None:
    wide = bound.split(" || ")
    if request.version is not None:
        return request if is_within(request.version, [one.split(" ") for one in wide], "=") else None
    if request.is_any_version:
        return replace(request, specifier=bound)
    if request.is_tag:
        return None
    asked = request.specifier.split(" || ")
    return replace(request, specifier=" || ".join(f"{one} {other}" for one in asked for other in wide))


def _bounded_go(request: PackageRequest, bound: str) -> PackageRequest | None:
    if request.is_any_version:
        return replace(request, specifier=bound)
    return request if request.specifier == bound else None


def _bounded_cargo(request: PackageRequest, bound: str) -> PackageRequest | None:
    if request.version is not None:
        return request if is_within(request.version, [bound.split(", ")], "^") else None
    return replace(request, specifier=bound if request.is_any_version else f"{request.specifier}, {bound}")


_BOUNDED: Final = {"pip": _bounded_pip, "npm": _bounded_npm, "go": _bounded_go, "cargo": _bounded_cargo}


def parse_pattern_table(table: Mapping[str, Sequence[str]]) -> tuple[PackagePattern, ...]:
    """Parse lists of patterns by ecosystem. Raises ValueError that begins with the key, such as `pip.0`."""
    found: list[PackagePattern] = []
    for name, texts in table.items():
        ecosystem = _ECOSYSTEMS.get(name)
        if ecosystem is None:
            raise ValueError(f"{name}: there is no such ecosystem; known are {', '.join(_ECOSYSTEMS)}")
        if len(texts) > MAX_PATTERNS:
            raise ValueError(f"{name}: has {len(texts)} patterns, the maximum is {MAX_PATTERNS}")
        for number, text in enumerate(texts):
            try:
                found.append(parse_package_pattern(ecosystem, text))
            except ValueError as e:
                raise ValueError(f"{name}.{number}: {e}") from e
    return tuple(found)
