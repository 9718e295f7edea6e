"""Name a field in an error as the dialect's client has sent it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.errors import ApiError


def rename_field(e: ApiError, names: Mapping[str, str]) -> None:
    """Change the field that an error names from this service's name, a key of `names`, to the dialect's."""
    param = e.error.param
    if param is None or param not in names:
        return
    message = e.error.message
    if message.startswith(f"{param}:"):
        message = names[param] + message[len(param) :]
    e.error = replace(e.error, message=message, param=names[param])
