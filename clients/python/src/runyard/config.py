"""The address of the service and the key: from arguments, then the environment, then the config file.

The file is TOML, `~/.config/runyard/config.toml` (`$XDG_CONFIG_HOME`; `RUNYARD_CONFIG` names another):

    url = "http://localhost:8080"
    api_key = "ry_…"
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runyard.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_URL = "http://localhost:8080"
#: The key of a service that `make up` started on this machine. It is never sent anywhere else unasked.
DEVELOPMENT_KEY = "dev_123"
_KNOWN = {"url", "api_key"}
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """The address without a trailing slash, and the key if there is one. `doctor` shows the source of each."""

    url: str
    api_key: str | None
    url_from: str = "default"
    api_key_from: str = "default"

    @classmethod
    def load(
        cls, url: str | None = None, api_key: str | None = None, *, environ: Mapping[str, str] | None = None
    ) -> Config:
        """Load each value from the arguments, the environment or the config file. Raises ConfigError."""
        env = os.environ if environ is None else environ
        path = config_path(env)
        # With both given, a broken or missing file is not read.
        stored = {} if url and api_key else read_config(path, required="RUNYARD_CONFIG" in env)
        address, url_from = _first(
            ("argument", url),
            ("RUNYARD_URL", env.get("RUNYARD_URL")),
            (str(path), stored.get("url")),
            ("default", DEFAULT_URL),
        )
        checked = check_url(address or DEFAULT_URL, url_from)
        key, key_from = _first(
            ("argument", api_key),
            ("RUNYARD_API_KEY", env.get("RUNYARD_API_KEY")),
            (str(path), stored.get("api_key")),
            ("default", DEVELOPMENT_KEY if is_local(checked) else None),
        )
        return cls(checked, check_key(key, key_from), url_from, key_from)


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the config file, which may not exist."""
    env = os.environ if environ is None else environ
    if named := env.get("RUNYARD_CONFIG"):
        return Path(named)
    base = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(base) / "runyard" / "config.toml"


def check_url(url: str, where: str) -> str:
    """Check an address and remove its trailing slash. Raises ConfigError that names the source of the value."""
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        bad = True
        parts = urlsplit("")
    if bad or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ConfigError(f"url ({where}): must be http(s)://host[:port][/path], for example {DEFAULT_URL}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"url ({where}): must not contain a user name or password; set RUNYARD_API_KEY instead")
    return url.rstrip("/")


def check_key(key: str | None, where: str) -> str | None:
    """Check that a key is valid in a header. Raises ConfigError, which never contains the key."""
    if key is None:
        return None
    if not key.isascii() or not key.isprintable() or " " in key or len(key) > 512:
        raise ConfigError(f"api key ({where}): must be at most 512 visible ASCII characters")
    return key


def is_local(url: str) -> bool:
    """Return whether the address is of this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _first(*candidates: tuple[str, str | None]) -> tuple[str | None, str]:
    return next(((value, where) for where, value in candidates if value), (None, "nowhere"))


def write_config(path: Path, settings: Mapping[str, str]) -> None:
    """Write the config file for its owner alone, in one step. Raises ConfigError."""
    # A link, as programs that manage dotfiles make, stays one.
    target = Path(os.path.realpath(path))
    text = "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ConfigError(f"{path}: cannot be written: {e.strerror}") from e


def others_may_read(path: Path) -> bool:
    """Return whether the mode of a file lets other accounts read it."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def read_config(path: Path, *, required: bool = False) -> dict[str, str]:
    """Read the config file; nothing if there is none and it is not required. Raises ConfigError."""
    try:
        with path.open("rb") as opened:
            text = opened.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as e:
        if required:
            raise ConfigError(f"RUNYARD_CONFIG: no such file: {path}") from e
        return {}
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    try:
        parsed = tomllib.loads(text.decode())
    except ValueError as e:  # also what is not UTF-8
        raise ConfigError(f"{path}: invalid TOML: {e}") from e
    unknown = sorted(parsed.keys() - _KNOWN)
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]!r}: unknown setting; supported: api_key, url")
    if wrong := [name for name, value in parsed.items() if not isinstance(value, str)]:
        raise ConfigError(f"{path}: {wrong[0]}: must be a string")
    return {name: str(value) for name, value in parsed.items()}
