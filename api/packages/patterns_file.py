"""Load the patterns of the packages that runs may ask for: `PACKAGES_FILE`, lists by ecosystem in TOML."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.settings import Settings, SettingsError
from protocol.package_patterns import PackagePattern, parse_pattern_table

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES = 1024 * 1024


class _PatternsIn(BaseModel):
    """The file."""

    model_config = ConfigDict(strict=True)

    patterns: dict[Annotated[str, Field(max_length=32)], list[str]]


def load_patterns(settings: Settings) -> tuple[PackagePattern, ...]:
    """Return the patterns of `PACKAGES_FILE`. Raises SettingsError that names the file and its entry."""
    if settings.packages_file is not None:
        return _read(settings.packages_file)
    if settings.package_mode == "approved":
        raise SettingsError("PACKAGES: approved needs PACKAGES_FILE, which lists the packages that are permitted")
    return ()


def _read(path: Path) -> tuple[PackagePattern, ...]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError(f"PACKAGES_FILE: {path} is larger than {MAX_FILE_BYTES} bytes")
        table = _PatternsIn.model_validate({"patterns": tomllib.loads(data.decode())}).patterns
    except OSError as e:
        raise SettingsError(f"PACKAGES_FILE: {path} cannot be read: {e.strerror}") from e
    except ValidationError as e:
        problem = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"][1:]))
        raise SettingsError(f"PACKAGES_FILE: {path}: {where}: must be a list of strings") from e
    except ValueError as e:  # not UTF-8, or not TOML; the message names the line
        raise SettingsError(f"PACKAGES_FILE: {path} is not TOML: {e}") from e
    try:
        return parse_pattern_table(table)
    except ValueError as e:
        raise SettingsError(f"PACKAGES_FILE: {path}: {e}") from e
