"""The service's answers about functions as frozen objects; see `models`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from runyard.models import Json, Row


@dataclass(frozen=True, slots=True)
class Function:
    """A version of a function. A listed one has no log; `raw` has what else the service answered."""

    name: str
    version: int
    #: `ready`, `failed` or `building`.
    state: str
    language: str
    #: The output of its build.
    log: str
    description: str | None
    input_schema: Json | None
    env_names: tuple[str, ...]
    limits: dict[str, int | float]
    created_at: str | None
    updated_at: str | None
    raw: Json = field(repr=False, compare=False)

    @property
    def ready(self) -> bool:
        """Return whether it can be called."""
        return self.state == "ready"

    @classmethod
    def of(cls, data: object) -> Self:
        """Read it from the API's JSON. Raises ProtocolError."""
        row = Row(data, "function")
        return cls(
            name=row.text("name"),
            version=row.number("version"),
            state=row.text("state"),
            language=row.text("language", ""),
            log=row.text("log", ""),
            description=row.text_or_none("description"),
            input_schema=row.part("input_schema"),
            env_names=tuple(str(name) for name in row.items("env_names")),
            limits=row.part("limits") or {},
            created_at=row.text_or_none("created_at"),
            updated_at=row.text_or_none("updated_at"),
            raw=row.data,
        )
