"""Two facts about every environment variable: the processes that read it, and the secrets that its value holds.

The facts of a setting are in its definition (`config.settings`), those of other variables are in `OTHERS`.
`config.environment` answers questions about both. Standard library only: the builder of images reads `OTHERS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import quote, unquote

#: `images` builds the runner images, `egress` connects to other machines for programs. `ops` is the supervisor and
#: the commands of `make`, which have the whole environment of their caller; the supervisor gives each of the others
#: the variables that it reads.
Reader = Literal["api", "worker", "images", "ops", "egress"]

MASK = "***"
#: Shorter ones would be found in every other word.
MIN_SECRET_LENGTH = 4

_URL_START = r"[A-Za-z][A-Za-z0-9+.-]*://"
#: A password ends at the last `@` before the path for urllib, and at the first one for SQLAlchemy.
_PASSWORDS = (
    re.compile(_URL_START + r"[^:/?#]*:([^/?#]*)@"),
    re.compile(_URL_START + r"[^:/@]*:([^@]*)@"),
    re.compile(r"(?i)[?&][^=&]*password=([^&#]*)"),
)


class Secret(Enum):
    """The secret part of a value, which is never shown."""

    NONE = "none"
    WHOLE = "whole"
    #: Each of several, comma-separated.
    LIST = "list"
    #: The token of each entry `token:label:rps:burst`.
    KEYS = "keys"
    #: The password of a URL.
    PASSWORD = "password"  # noqa: S105
    #: The value of each header of `name=value,name=value`, as OpenTelemetry reads them.
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class Variable:
    """The facts of one variable, or of all whose names match a pattern."""

    readers: frozenset[Reader]
    secret: Secret = Secret.NONE
    #: A setting; where it is unset, no process is given the variable.
    needs: str | None = None
    #: The value is comma-separated: the settings file may give a list instead.
    is_list: bool = False


def read_by(
    *readers: Reader, secret: Secret = Secret.NONE, needs: str | None = None, is_list: bool = False
) -> Variable:
    """Return the facts of a variable."""
    return Variable(frozenset(readers), secret, needs, is_list)


#: Variables that are no settings, by patterns of `fnmatch`; the first that matches a name holds.
OTHERS: dict[str, Variable] = {
    "AWS_SECRET_ACCESS_KEY": read_by("api", "worker", secret=Secret.WHOLE, needs="storage_url"),
    "AWS_SESSION_TOKEN": read_by("api", "worker", secret=Secret.WHOLE, needs="storage_url"),
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": read_by("api", "worker", secret=Secret.WHOLE, needs="storage_url"),
    "AWS_*": read_by("api", "worker", needs="storage_url"),
    "OTEL_*HEADERS": read_by("api", "worker", secret=Secret.HEADERS, needs="otel_exporter_otlp_endpoint"),
    "OTEL_*ENDPOINT": read_by("api", "worker", secret=Secret.PASSWORD, needs="otel_exporter_otlp_endpoint"),
    "OTEL_*": read_by("api", "worker", needs="otel_exporter_otlp_endpoint"),
    "RUNNER_IMAGE_*": read_by("worker", "ops"),
    # Other names of settings, see config/other_names.py: the supervisor hands on the settings instead.
    "RUNNER_API_KEY": read_by("ops", secret=Secret.WHOLE),
    "RUNNER_CLEANUP_INTERVAL": read_by("ops"),
    "RUNNER_HOST": read_by("ops"),
    "RUNNER_LOG_LEVEL": read_by("ops"),
    "RUNNER_PORT": read_by("ops"),
    "RUNNER_REDIS_URL": read_by("ops", secret=Secret.PASSWORD),
    "RUNYARD_EGRESS_TEST": read_by("egress", "ops"),
    "PYTHONWARNINGS": read_by("api", "worker", "images", "ops", "egress"),
    "RUNYARD_DIE_AT": read_by("api", "worker", "images", "ops"),
    "SSL_CERT_DIR": read_by("api", "worker", "images", "ops"),
    "SSL_CERT_FILE": read_by("api", "worker", "images", "ops"),
    "TZ": read_by("api", "worker", "images", "ops", "egress"),
    # Only the builder reaches the archives of Debian, Python and npm.
    "DEBIAN_*": read_by("images", "ops", secret=Secret.PASSWORD),
    "NPM_*[_:]_AUTH*": read_by("images", "ops", secret=Secret.WHOLE),
    "NPM_*[_:]_PASSWORD": read_by("images", "ops", secret=Secret.WHOLE),
    "NPM_*": read_by("images", "ops", secret=Secret.PASSWORD),
    "PIP_*": read_by("images", "ops", secret=Secret.PASSWORD),
    "ALL_PROXY": read_by("images", "ops", secret=Secret.PASSWORD),
    "FTP_PROXY": read_by("images", "ops", secret=Secret.PASSWORD),
    "HTTP_PROXY": read_by("images", "ops", secret=Secret.PASSWORD),
    "HTTPS_PROXY": read_by("images", "ops", secret=Secret.PASSWORD),
    "NO_PROXY": read_by("images", "ops"),
}


def find_other(name: str) -> Variable | None:
    """Return the facts of a variable that is no setting, in any case of its name; None if nothing reads it."""
    upper = name.upper()
    return next((facts for pattern, facts in OTHERS.items() if fnmatchcase(upper, pattern)), None)


def other_secrets(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the secrets in all variables that are no settings."""
    facts = ((find_other(name), value) for name, value in environ.items())
    return frozenset().union(*(secret_parts(found.secret, value) for found, value in facts if found is not None))


def mask(text: str, secrets: frozenset[str]) -> str:
    """Return the text with `***` for each secret, but for those that are too short."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = text.replace(secret, MASK)
    return text


def secret_parts(secret: Secret, value: str) -> frozenset[str]:
    """Return the secrets in a value, each as it was given and percent-decoded."""
    if secret is Secret.NONE:
        return frozenset()
    if secret is Secret.WHOLE:
        found = {value, value.strip()}
    elif secret is Secret.LIST:
        found = {entry.strip() for entry in value.split(",")}
    elif secret is Secret.KEYS:
        found = {entry.strip().split(":")[0] for entry in value.split(",")}
    elif secret is Secret.PASSWORD:
        found = _passwords(value)
    else:
        found = _header_values(value)
    return frozenset(found) - {""}


def _passwords(value: str) -> set[str]:
    found = {password for pattern in _PASSWORDS for password in pattern.findall(value)}
    # After an `@` that should be %40 the rest of a password is taken for the host, and stands in errors as such.
    found |= {part for password in found for part in password.split("@")}
    decoded = {unquote(password) for password in found}
    # Libraries that show the URL encode the password again, each in its way.
    return found | decoded | {quote(password, safe=safe) for password in decoded for safe in ("", " +")}


def _header_values(value: str) -> set[str]:
    found = {entry.partition("=")[2].strip() for entry in value.split(",")}
    found |= {unquote(header) for header in found}
    # Of `Basic …` and `Bearer …` also the credential without its scheme.
    return found | {header.split()[-1] for header in found if header.strip()}
