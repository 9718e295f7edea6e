"""The packages that a run or session asks for: parsed, normalised, and the failure to provide them.

An entry is a name with a version, as the ecosystem's own tool writes it, and nothing else: no option, path, URL or
git reference. The normal form of an entry is parsed again without a change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from protocol.limits import JobInvalid

MAX_PACKAGES = 32
MAX_PACKAGE_BYTES = 200
#: The same once the bounds of the service's patterns have been added.
MAX_BOUNDED_BYTES = 1000

Ecosystem = Literal["pip", "npm", "go", "cargo"]
#: The ecosystem of the packages of each language that has one.
ECOSYSTEMS: Final[dict[str, Ecosystem]] = {
    "python": "pip",
    "node": "npm",
    "typescript": "npm",
    "bun": "npm",
    "deno": "npm",
    "go": "go",
    "rust": "cargo",
}
#: The forms of a valid entry, for messages.
FORMS: Final[dict[Ecosystem, str]] = {
    "pip": "a name with version specifiers, such as requests==2.32.3, numpy>=1.26,<3 or httpx[http2]",
    "npm": "name@version, such as lodash@4.17.21, @types/node@^22 or left-pad",
    "go": "module@version, such as github.com/google/uuid@v1.6.0 or golang.org/x/text",
    "cargo": "name@version-requirement, such as serde[derive]@1.0.219, rand@^0.8 or itoa",
}
#: A failure of a build, as a client reads it.
FailureCode = Literal["package_not_found", "package_not_allowed", "package_build_failed"]


class PackagesFailed(Exception):
    """The packages of a run or session cannot be provided.

    `index` is the place of the package at fault among those that were asked for; None if it is not a single one.
    The message goes on after the name of that field.
    """

    def __init__(self, code: FailureCode, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.index = index

    @property
    def param(self) -> str:
        """Return the field of the request that is at fault."""
        return "packages" if self.index is None else f"packages.{self.index}"


@dataclass(frozen=True, slots=True)
class PackageRequest:
    """One package: its name and version specifier in normal form.

    `specifier` is empty for a pip package without one, `latest` (npm, go) or `*` (cargo) for the newest version.
    `extras` are pip's extras, or the features of a crate beside its default ones.
    """

    ecosystem: Ecosystem
    name: str
    specifier: str
    extras: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the entry in normal form."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return f"{self.name}{extras}{'' if self.ecosystem == 'pip' else '@'}{self.specifier}"

    @property
    def identity(self) -> str:
        """Return the text that two entries for one package share."""
        return self.name.lower().replace("_", "-") if self.ecosystem == "cargo" else self.name

    @property
    def version(self) -> str | None:
        """Return the one version that is asked for; None if several would do."""
        return _VERSION_OF[self.ecosystem](self.specifier)

    @property
    def is_any_version(self) -> bool:
        """Return whether no version is named."""
        return self.specifier in ("", "latest", "*")

    @property
    def is_tag(self) -> bool:
        """Return whether a tag of npm's is named."""
        return self.ecosystem == "npm" and self.specifier[0].isalpha() and not _LIKE_VERSION.match(self.specifier)


def parse_packages(
    ecosystem: Ecosystem, texts: Sequence[str], *, most_bytes: int = MAX_PACKAGE_BYTES
) -> tuple[str, ...]:
    """Return the entries in normal form, sorted. Raises JobInvalid that names the first wrong one."""
    return tuple(sorted(request.text for request in parse_requests(ecosystem, texts, most_bytes=most_bytes)))


def parse_requests(
    ecosystem: Ecosystem, texts: Sequence[str], *, most_bytes: int = MAX_PACKAGE_BYTES
) -> tuple[PackageRequest, ...]:
    """Return the entries in their order. Raises JobInvalid that names the first wrong one."""
    if len(texts) > MAX_PACKAGES:
        message = f"packages: {len(texts)} entries, the maximum is {MAX_PACKAGES}"
        raise JobInvalid(message, param="packages", code="too_many")
    found: dict[str, PackageRequest] = {}
    for index, text in enumerate(texts):
        try:
            request = parse_package(ecosystem, text, most_bytes=most_bytes)
        except ValueError as e:
            raise _invalid(index, ecosystem, str(e)) from e
        if request.identity in found:
            raise _invalid(index, ecosystem, "names a package a second time")
        found[request.identity] = request
    return tuple(found.values())


# A client asks for the same packages in run after run.
@lru_cache(maxsize=1024)
def parse_package(ecosystem: Ecosystem, text: str, *, most_bytes: int = MAX_PACKAGE_BYTES) -> PackageRequest:
    """Return one entry. Raises ValueError; its message describes the error and does not repeat the text."""
    if not text.strip():
        raise ValueError("must not be empty")
    if len(text) > most_bytes:
        raise ValueError(f"must have at most {most_bytes} bytes")
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    request = _PARSERS[ecosystem](text.strip())
    if len(request.text) > most_bytes:
        raise ValueError(f"must have at most {most_bytes} bytes in its normal form")
    return request


def ecosystem_of(language: str) -> Ecosystem:
    """Return the ecosystem of a language, by its id. Raises JobInvalid for one without."""
    found = ECOSYSTEMS.get(language)
    if found is None:
        message = f"packages: {language} has none; languages with packages are {', '.join(ECOSYSTEMS)}"
        raise JobInvalid(message, param="packages", code="not_supported")
    return found


def _invalid(index: int, ecosystem: Ecosystem, problem: str) -> JobInvalid:
    param = f"packages.{index}"
    message = f"{param}: {problem}; an entry is {FORMS[ecosystem]}"
    return JobInvalid(message, param=param, code="invalid_package")


# -- pip -------------------------------------------------------------------------------------------


def _parse_pip(text: str) -> PackageRequest:
    # Here and below: the builder of images imports this module, and has the standard library alone.
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import InvalidName, canonicalize_name

    try:
        parsed = Requirement(text)
    except InvalidRequirement as e:
        raise ValueError("is not a name with version specifiers") from e
    if parsed.url is not None:
        raise ValueError("must not be a URL or a path")
    if parsed.marker is not None:
        raise ValueError("must not have a marker")
    if any(specifier.operator == "===" for specifier in parsed.specifier):
        raise ValueError("must not have ===, which compares text; use ==")
    try:
        # The parser takes names that end in an underscore.
        name = canonicalize_name(parsed.name, validate=True)
        extras = {canonicalize_name(extra, validate=True) for extra in parsed.extras}
    except InvalidName as e:
        raise ValueError("has a name that Python packages cannot have") from e
    return PackageRequest("pip", name, str(parsed.specifier), tuple(sorted(extras)))


def _pip_version(specifier: str) -> str | None:
    from packaging.specifiers import SpecifierSet

    exact = (one.version for one in SpecifierSet(specifier) if one.operator == "==")
    return next((version for version in exact if not version.endswith("*")), None)


# -- npm -------------------------------------------------------------------------------------------

#: Stricter than npm's rule for new names but for capital letters, which old packages have.
_NPM_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NPM_NAME = re.compile(rf"(?:@{_NPM_PART}/)?{_NPM_PART}")
_NPM_NAME_LENGTH = 214
#: npm takes a name with one of these endings as the path of a file.
_NPM_FILES = (".tgz", ".tar.gz", ".tar")
_NPM_RESERVED = ("node_modules", "favicon.ico")
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_SEMVER = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?"
_PART = rf"(?:{_NUMBER}|[xX*])"
_PARTIAL = rf"[vV]?{_PART}(?:\.{_PART}(?:\.{_PART}(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?)?)?"
_COMPARATOR = rf"(?:\^|~>?|[<>]=?|=)?{_PARTIAL}"
_EXACT = re.compile(_SEMVER)
_NPM_RANGE = re.compile(rf"{_COMPARATOR}(?: {_COMPARATOR})*(?: \|\| {_COMPARATOR}(?: {_COMPARATOR})*)*")
_NPM_HYPHEN = re.compile(rf"({_PARTIAL}) +- +({_PARTIAL})")
_NPM_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
#: A tag must not look like a version.
_LIKE_VERSION = re.compile(r"[vV]?[0-9xX*].*|[xX]")


def _parse_npm(text: str) -> PackageRequest:
    at = text.find("@", 1)
    name, version = (text, "latest") if at < 0 else (text[:at], text[at + 1 :])
    if not _NPM_NAME.fullmatch(name) or len(name) > _NPM_NAME_LENGTH:
        raise ValueError("has a name that npm packages cannot have")
    if name.lower().endswith(_NPM_FILES) or name.lower() in _NPM_RESERVED:
        raise ValueError("has the name of a file")
    if at >= 0 and not version.strip():
        raise ValueError("has no version behind the @")
    return PackageRequest("npm", name, npm_range(version))


def npm_range(text: str) -> str:
    """Return a range of npm versions, or a tag, in normal form. Raises ValueError."""
    if _NPM_TAG.fullmatch(text) and not _LIKE_VERSION.fullmatch(text):
        return text
    return " || ".join(_npm_alternative(part.strip(" ")) for part in text.split("||"))


def _npm_alternative(text: str) -> str:
    hyphen = _NPM_HYPHEN.fullmatch(text)
    if hyphen is not None:
        return f">={hyphen[1]} <={hyphen[2]}"
    spaced = re.sub(r"(\^|~>?|[<>]=?|=) +", r"\1", re.sub(r" {2,}", " ", text))
    if _NPM_RANGE.fullmatch(spaced):
        return spaced
    raise ValueError("has no version, range of versions or tag behind the @")


def _npm_version(specifier: str) -> str | None:
    version = specifier.lstrip("=vV")
    return version if _EXACT.fullmatch(version) else None


# -- go --------------------------------------------------------------------------------------------

#: The rules of golang.org/x/mod/module.CheckPath for the path of a module.
_GO_HOST = re.compile(r"[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+")
_GO_ELEMENT = re.compile(r"[A-Za-z0-9_~-](?:[A-Za-z0-9._~-]*[A-Za-z0-9_~-])?")
_GO_MAJOR = re.compile(r"/v([0-9]+)$")
_GO_GOPKG = re.compile(r"gopkg\.in/(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+\.v(0|[1-9][0-9]*)")
#: Pseudo-versions have this form, too.
_GO_VERSION = re.compile(rf"v({_NUMBER})\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIERS})?(\+incompatible)?")


def _parse_go(text: str) -> PackageRequest:
    path, at, version = text.partition("@")
    host, _, rest = path.partition("/")
    elements = rest.split("/") if rest else []
    if not _GO_HOST.fullmatch(host) or path.endswith("/") or not all(map(_GO_ELEMENT.fullmatch, elements)):
        raise ValueError("has no path of a module, which begins with a host name")
    if not at or version == "latest":
        return PackageRequest("go", path, "latest")
    parsed = _GO_VERSION.fullmatch(version)
    if parsed is None:
        raise ValueError("has no version of the form v1.2.3 behind the @, and not latest")
    _check_go_major(path, int(parsed[1]), is_incompatible=parsed[2] is not None)
    return PackageRequest("go", path, version)


def _check_go_major(path: str, major: int, *, is_incompatible: bool) -> None:
    """Check that the major version is that of the path. Raises ValueError."""
    named = _GO_GOPKG.fullmatch(path) if path.startswith("gopkg.in/") else _GO_MAJOR.search(path)
    if named is not None:
        if int(named[1]) != major:
            raise ValueError(f"has the path of major version {named[1]} and a version of v{major}")
    elif major > 1 and not is_incompatible:
        raise ValueError(f"has a version of v{major}, for which the path ends in /v{major}")


def _go_version(specifier: str) -> str | None:
    return None if specifier == "latest" else specifier


# -- cargo -----------------------------------------------------------------------------------------

_CARGO_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63})(?:\[([^\[\]]*)\])?")
_CARGO_FEATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*")
_CARGO_PARTIAL = (
    rf"{_NUMBER}(?:\.(?:{_NUMBER}(?:\.(?:{_NUMBER}(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?|\*))?|\*(?:\.\*)?))?"
)
_CARGO_COMPARATOR = re.compile(rf"(?:\^|~|[<>]=?|=)?{_CARGO_PARTIAL}")


def _parse_cargo(text: str) -> PackageRequest:
    name, at, requirement = text.partition("@")
    parsed = _CARGO_NAME.fullmatch(name)
    if parsed is None:
        raise ValueError("has a name that crates cannot have")
    features = {feature.strip(" ") for feature in (parsed[2] or "").split(",") if feature.strip(" ")}
    if not all(map(_CARGO_FEATURE.fullmatch, features)):
        raise ValueError("has a feature with a name that features cannot have")
    specifier = cargo_requirement(requirement) if at else "*"
    return PackageRequest("cargo", parsed[1], specifier, tuple(sorted(features)))


def cargo_requirement(text: str) -> str:
    """Return a requirement of crates' versions in normal form. Raises ValueError."""
    parts = [part.replace(" ", "") for part in text.split(",")]
    if parts == ["*"]:
        return "*"
    if not all(map(_CARGO_COMPARATOR.fullmatch, parts)):
        raise ValueError("has no version requirement behind the @")
    return ", ".join(parts)


def _cargo_version(specifier: str) -> str | None:
    version = specifier.removeprefix("=")
    return version if specifier.startswith("=") and _EXACT.fullmatch(version) else None


_PARSERS: Final[dict[Ecosystem, Callable[[str], PackageRequest]]] = {
    "pip": _parse_pip,
    "npm": _parse_npm,
    "go": _parse_go,
    "cargo": _parse_cargo,
}
_VERSION_OF: Final[dict[Ecosystem, Callable[[str], str | None]]] = {
    "pip": _pip_version,
    "npm": _npm_version,
    "go": _go_version,
    "cargo": _cargo_version,
}
