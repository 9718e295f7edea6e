"""Keys, plans, usage and the admin calls: what is asked, and what is answered, field by field in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid
from api.http.field_names import FieldNames
from api.http.validation import shape_error
from api.keys.service import LABEL_PATTERN, LABEL_RULE, is_label
from api.openapi.models import Count, Page, ResponseModel, Time

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyId = Annotated[str, Field(pattern=r"^key_[A-Za-z0-9]{20,64}$")]
KeyText = Annotated[str, Field(pattern=r"^ry_[0-9A-Za-z]{38}$")]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", json_schema_extra={"format": "date"})]
Amount = Annotated[float, Field(ge=0)]
#: The pattern of a label in the document; `label_of` checks it, because its error message is better.
Label = Annotated[str | None, Field(json_schema_extra={"pattern": f"^{LABEL_PATTERN}$"})]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewKeyIn(_In):
    """The body of `POST /v1/keys`; optional."""

    label: Label = None


class AdminNewKeyIn(_In):
    """The body of `POST /v1/admin/keys`."""

    plan: str
    label: Label = None


class AdminKeyIn(_In):
    """The body of `PATCH /v1/admin/keys/{id}`: at least one field."""

    plan: str | None = None
    disabled: bool | None = None


class NewKeyOut(ResponseModel):
    """A new key. Its secret is shown only here."""

    id: KeyId
    object: Literal["key"]
    key: KeyText
    plan: str
    created_at: Time


class RotatedKeyOut(NewKeyOut):
    """A rotated key."""

    previous_valid_until: Time


class KeyOut(ResponseModel):
    """A key, as shown to its holder. A static key (`API_KEYS`) has no plan, prefix, creation time or run quota."""

    id: KeyId
    object: Literal["key"]
    plan: str | None
    created_at: Time | None
    prefix: str | None = Field(description="The first characters of the key.")
    label: str
    limits: dict[str, int | float] = Field(description="The ceiling of each run limit.")
    runs_left: Count | None = Field(description="Null if there is no bound.")
    runs_reset_at: Time | None = Field(description="The time at which `runs_left` is reset; null if never.")
    disabled: bool


class AdminKeyOut(KeyOut):
    """A key as the admin calls show it. A static key (`API_KEYS`) is read-only; entries with one label are one."""

    static: bool = Field(description="True if the key is set in `API_KEYS`.")
    revoked_at: Time | None
    previous_valid_until: Time | None = Field(description="The time until which the previous secret is valid.")


class AdminKeyListOut(Page[AdminKeyOut]):
    """A page of keys."""


class KeyDeletedOut(ResponseModel):
    """The key is revoked."""

    id: KeyId
    object: Literal["key"]
    deleted: Literal[True]


class AuditEntryOut(ResponseModel):
    """A change of a key. `actor` is `admin`, `operator`, a key's id or an address."""

    id: str
    object: Literal["audit_entry"]
    created_at: Time
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditListOut(Page[AuditEntryOut]):
    """Changes of keys, one page."""


class UsedOut(ResponseModel):
    """Resources used by the runs of one language."""

    runs: Count
    cpu_seconds: Amount
    wall_seconds: Amount
    gb_seconds: Amount
    bytes_in: Count
    bytes_out: Count
    sessions: Count = Field(description="Sessions that were created.")
    session_seconds: Amount = Field(description="The time in which sessions were neither frozen nor paused.")
    session_cpu_seconds: Amount
    session_gb_seconds: Amount = Field(
        description="The memory that sessions were charged for by its time: their limit, or what a frozen one held."
    )
    egress_bytes: Count = Field(description="Sent to other machines and received from them, by runs and sessions.")


class UsageOut(ResponseModel):
    """Resources used by the runs that ended on the days from `from` to `to`, both included, in UTC."""

    object: Literal["usage"]
    from_: Day = Field(alias="from")
    to: Day
    plan: str | None
    runs: Count
    runs_limit: Count | None
    cpu_seconds: Amount
    wall_seconds: Amount
    gb_seconds: Amount
    bytes_in: Count
    bytes_out: Count
    sessions: Count = Field(description="Sessions that were created.")
    session_seconds: Amount = Field(description="The time in which sessions were neither frozen nor paused.")
    session_cpu_seconds: Amount
    session_gb_seconds: Amount = Field(
        description="The memory that sessions were charged for by its time: their limit, or what a frozen one held."
    )
    egress_bytes: Count = Field(description="Sent to other machines and received from them, by runs and sessions.")
    by_language: dict[str, UsedOut]


class UsageGroupOut(UsedOut):
    """Resources used by the runs of one group. A field is null where it is not grouped by."""

    key: str | None
    label: str | None = Field(description="The label of the key; empty if it has none, or is not there any more.")
    plan: str | None = Field(description="The plan that the key has now; null for a static key.")
    language: str | None
    day: Day | None


class AdminUsageOut(ResponseModel):
    """Resources used by the runs of all keys that ended on the days from `from` to `to`, both included, in UTC."""

    object: Literal["usage_report"]
    from_: Day = Field(alias="from")
    to: Day
    group_by: list[Literal["key", "plan", "language", "day"]]
    data: list[UsageGroupOut]
    total: UsedOut


class BulkKeyOut(NewKeyOut):
    """A key that was created with others."""

    label: str


class BulkKeysOut(ResponseModel):
    """Keys that were created together, in the order of the rows. Their secrets are shown only here."""

    object: Literal["list"]
    data: list[BulkKeyOut]


class PlanOut(ResponseModel):
    """The bounds of a plan; null means no bound but the service's own."""

    runs: Count | None
    period: Literal["all", "month"]
    rate_per_minute: Amount
    burst: Count
    concurrency: Count | None
    queue: Count | None
    storage_bytes: Count | None
    records_bytes: Count | None
    sessions: Count | None
    session_age_s: Count | None
    session_seconds: Count | None
    session_cpu_seconds: Count | None
    session_timeout_ms: Count | None
    limits: dict[str, int | float] = Field(description="The ceiling of each run limit.")


class PlansOut(ResponseModel):
    """The current plans."""

    object: Literal["plans"]
    loaded_at: Time
    error: str | None = Field(description="The problem of the present `PLANS_FILE`, which was not loaded.")
    plans: dict[str, PlanOut]


M = TypeVar("M", bound=_In)


def parsed(model: type[M], data: Mapping[str, Any]) -> M:
    """Return a body as that model. Raises ApiError 400 naming the first wrong field."""
    try:
        return model.model_validate(data)
    except ValidationError as e:
        raise shape_error(e, FieldNames.of(model)) from e


def label_of(given: str | None) -> str:
    """Return a label that is safe in a log and on a page. Raises ApiError 400."""
    if given is not None and not is_label(given):
        raise invalid(f"label: {LABEL_RULE}", param="label")
    return given or ""


def unknown_plan(known: list[str]) -> ApiError:
    """Return the error for a plan that is not in `PLANS_FILE`."""
    return invalid(f"plan: unknown; supported: {', '.join(known)}", param="plan", code="unknown_plan")
