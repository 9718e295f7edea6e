"""Keys, plans, usage and the admin calls: what is asked, and what is answered, field by field in that order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.schemas import shape_error

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LABEL = 64
_LABEL = re.compile(rf"[A-Za-z0-9_.-]{{0,{MAX_LABEL}}}")


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewKeyIn(_In):
    """The body of `POST /v1/keys`; it may be missing."""

    label: str | None = None


class AdminNewKeyIn(_In):
    """The body of `POST /v1/admin/keys`."""

    plan: str
    label: str | None = None


class AdminKeyIn(_In):
    """The body of `PATCH /v1/admin/keys/{id}`: at least one of them."""

    plan: str | None = None
    disabled: bool | None = None


class NewKeyOut(BaseModel):
    """A key that was made: the only time that it is shown."""

    id: str
    object: Literal["key"] = "key"
    key: str
    plan: str
    created_at: str


class RotatedKeyOut(NewKeyOut):
    """A key that was made anew."""

    previous_valid_until: str


class KeyOut(BaseModel):
    """`GET /v1/keys/me`. A static key of `API_KEYS` has no plan, prefix, age or number of runs."""

    id: str
    object: Literal["key"] = "key"
    plan: str | None
    created_at: str | None
    prefix: str | None
    label: str
    #: The most that each limit of a run may be.
    limits: dict[str, int | float]
    runs_left: int | None
    #: When `runs_left` is what it was; null if it never is.
    runs_reset_at: str | None
    disabled: bool


class AdminKeyOut(KeyOut):
    """A stored key as the admin calls show it."""

    revoked_at: str | None
    previous_valid_until: str | None


class AdminKeyListOut(BaseModel):
    """`GET /v1/admin/keys`."""

    object: Literal["list"] = "list"
    data: list[AdminKeyOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class KeyDeletedOut(BaseModel):
    """A key that is good no more."""

    id: str
    object: Literal["key"] = "key"
    deleted: Literal[True] = True


class AuditEntryOut(BaseModel):
    """One thing that was done to a key. `actor` is `admin`, `operator`, a key's id or an address."""

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    created_at: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditListOut(BaseModel):
    """`GET /v1/admin/audit`."""

    object: Literal["list"] = "list"
    data: list[AuditEntryOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class UsedOut(BaseModel):
    """What runs of one language used together."""

    runs: int
    cpu_seconds: float
    wall_seconds: float
    gb_seconds: float
    bytes_in: int
    bytes_out: int


class UsageOut(BaseModel):
    """`GET /v1/usage`: of the days from `from` to `to`, both included, in UTC."""

    model_config = ConfigDict(populate_by_name=True)

    object: Literal["usage"] = "usage"
    from_: str = Field(serialization_alias="from")
    to: str
    plan: str | None
    runs: int
    runs_limit: int | None
    cpu_seconds: float
    wall_seconds: float
    gb_seconds: float
    bytes_in: int
    bytes_out: int
    by_language: dict[str, UsedOut]


M = TypeVar("M", bound=_In)


def parsed(model: type[M], data: Mapping[str, Any]) -> M:
    """A body of that form. Raises ApiError 400 naming the first field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise shape_error(e) from e


def label_of(given: str | None) -> str:
    """A label that can stand in a log and a page. Raises ApiError 400."""
    if given is not None and not _LABEL.fullmatch(given):
        raise invalid(f"label: must be at most {MAX_LABEL} of A-Z a-z 0-9 _ . -", param="label")
    return given or ""


def unknown_plan(known: list[str]) -> ApiError:
    """A plan that is not in `PLANS_FILE`."""
    return invalid(f"plan: unknown; known are {', '.join(known)}", param="plan", code="unknown_plan")
