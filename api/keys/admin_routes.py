"""`/v1/admin/…`: all keys, and the trail of what was done to them. The token is `ADMIN_TOKEN`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from api.context import context, next_url, require_admin
from api.errors import JSON, ApiError, invalid
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain
from api.http.pagination import parse_list
from api.keys.authentication import Caller
from api.keys.key_list import key_page
from api.keys.routes import (
    answer,
    is_key_id,
    key_fields,
    keyring,
    small_body,
    static_key,
    static_key_fields,
)
from api.keys.schemas import (
    AdminKeyIn,
    AdminKeyListOut,
    AdminKeyOut,
    AdminNewKeyIn,
    AuditEntryOut,
    AuditListOut,
    KeyDeletedOut,
    NewKeyOut,
    label_of,
    parsed,
    unknown_plan,
)
from api.openapi import examples_keys as examples
from api.openapi.decorator import Json, Query, RequestBody, operation
from api.openapi.error_codes import JSON_BODY, LISTED
from api.openapi.parameters import PAGING
from config.clock import rfc3339

if TYPE_CHECKING:
    from records.keys import StoredKey
    from records.page import RecordPage

blueprint = Blueprint("admin_keys", __name__)

ADMIN = "admin"
MAX_SUBJECT = 100
_PATH = {"key": "The key's id."}


@blueprint.get("/v1/admin/keys")
@operation(
    "List keys",
    tag="admin",
    description="Static keys (`API_KEYS`) come before the newest stored key; entries with one label are one key.",
    auth=("admin",),
    query=PAGING,
    answers={200: Json("The newest first, revoked ones too.", AdminKeyListOut, {"one": examples.KEY_PAGE})},
    errors=LISTED,
)
def admin_list_keys() -> Response:
    """List all keys, revoked ones too, by page: static keys, then the newest first; reversed by `order=asc`."""
    require_admin()
    asked = parse_list(request.args)
    page = key_page(context().static_keys, context().records.keys, asked)
    data = [_static_key(key) if isinstance(key, Caller) else _key(key) for key in page.items]
    return answer(AdminKeyListOut(object="list", data=data, **_ends(page)))


@blueprint.post("/v1/admin/keys")
@operation(
    "Create a key of any plan",
    tag="admin",
    auth=("admin",),
    body=RequestBody({JSON: AdminNewKeyIn}, {"pro": {"plan": "pro", "label": "alice"}}),
    answers={201: Json("The key. Its secret is shown only here.", NewKeyOut, {"made": examples.NEW_KEY})},
    errors=(*JSON_BODY, "unknown_plan"),
)
def admin_create_key() -> Response:
    """Make a key of any plan. 201 the key, shown this once; 400 an unknown plan; 401."""
    _require_admin_and_drain()
    wanted = parsed(AdminNewKeyIn, small_body())
    label = label_of(wanted.label)
    _check_plan(wanted.plan)
    made = keyring().make(wanted.plan, ADMIN, label=label)
    created_at = rfc3339(made.stored.created_at_ms)
    return answer(
        NewKeyOut(id=made.stored.id, object="key", key=made.text, plan=made.stored.plan, created_at=created_at), 201
    )


@blueprint.get("/v1/admin/keys/<string(minlength=5):key>")
@operation(
    "Get a key",
    tag="admin",
    auth=("admin",),
    path=_PATH,
    answers={200: Json("The key, revoked or not.", AdminKeyOut, {"free": examples.ADMIN_KEY})},
    errors=("key_not_found",),
)
def admin_get_key(key: str) -> Response:
    """Return one key, static or stored, revoked or not."""
    require_admin()
    if (static := _static(key)) is not None:
        return answer(_static_key(static))
    return answer(_key(_found(key)))


@blueprint.patch("/v1/admin/keys/<string(minlength=5):key>")
@operation(
    "Change a key's plan, disable or enable it",
    tag="admin",
    description="Takes effect with the key's next request. Give at least one of the two fields.",
    auth=("admin",),
    path=_PATH,
    body=RequestBody({JSON: AdminKeyIn}, {"disable": {"disabled": True}, "plan": {"plan": "pro"}}),
    answers={200: Json("The changed key.", AdminKeyOut, {"free": examples.ADMIN_KEY})},
    errors=(*JSON_BODY, "unknown_plan", "key_not_found", "key_revoked", "static_key"),
)
def admin_change_key(key: str) -> Response:
    """Change a key's plan, disable or enable it, with effect from its next request.

    409 for one that is revoked or static.
    """
    _require_admin_and_drain()
    wanted = parsed(AdminKeyIn, small_body())
    if wanted.plan is None and wanted.disabled is None:
        raise invalid("plan: give plan or disabled", param="plan", code="missing_field")
    if wanted.plan is not None:
        _check_plan(wanted.plan)
    _found(key)
    changed = keyring().change(key, ADMIN, plan=wanted.plan, disabled=wanted.disabled)
    if changed is None:
        raise _revoked()
    return answer(_key(changed))


@blueprint.delete("/v1/admin/keys/<string(minlength=5):key>")
@operation(
    "Revoke a key",
    tag="admin",
    description="Immediate and permanent.",
    auth=("admin",),
    path=_PATH,
    answers={200: Json("The key is revoked.", KeyDeletedOut)},
    errors=("key_not_found", "key_revoked", "static_key"),
)
def admin_delete_key(key: str) -> Response:
    """End a key at once and for good. 409 for one that is revoked or static."""
    require_admin()
    _found(key)
    if not keyring().revoke(key, ADMIN):
        raise _revoked()
    return answer(KeyDeletedOut(id=key, object="key", deleted=True))


@blueprint.get("/v1/admin/audit")
@operation(
    "Audit log of keys",
    tag="admin",
    auth=("admin",),
    query=(
        *PAGING[:2],
        Query("order", "The newest first.", {"type": "string", "enum": ["desc"], "default": "desc"}),
        Query("subject", "Only changes of the key with this id.", {"type": "string"}),
    ),
    answers={200: Json("The newest first.", AuditListOut, {"one": examples.AUDIT_PAGE})},
    errors=LISTED,
)
def admin_list_audit() -> Response:
    """List the changes of keys, the newest first; with `subject` those of one key."""
    require_admin()
    asked = parse_list(request.args, filters=("subject",))
    if asked.order != "desc":
        raise invalid("order: must be desc", param="order")
    page = context().records.keys.audit(
        limit=asked.limit, after=asked.after, subject=asked.filters.get("subject", "")[:MAX_SUBJECT] or None
    )
    data = [
        AuditEntryOut(
            id=entry.id,
            object="audit_entry",
            created_at=rfc3339(entry.at_ms),
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            detail=orjson.loads(entry.detail),
        )
        for entry in page.items
    ]
    return answer(AuditListOut(object="list", data=data, **_ends(page)))


def _require_admin_and_drain() -> None:
    """Require the admin's token; on refusal, read the body first so that the client receives the answer."""
    try:
        require_admin()
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise


def _key(stored: StoredKey) -> AdminKeyOut:
    revoked, previous = stored.revoked_at_ms, stored.previous_until_ms
    return AdminKeyOut(
        **key_fields(stored),
        static=False,
        revoked_at=None if revoked is None else rfc3339(revoked),
        previous_valid_until=None if previous is None else rfc3339(previous),
    )


def _static_key(caller: Caller) -> AdminKeyOut:
    return AdminKeyOut(**static_key_fields(caller), static=True, revoked_at=None, previous_valid_until=None)


def _static(key_id: str) -> Caller | None:
    return next((caller for caller in context().static_keys if caller.id == key_id), None)


def _found(key_id: str) -> StoredKey:
    """Return a stored key. Raises ApiError 404, or 409 for a static key."""
    if _static(key_id) is not None:
        raise static_key()
    stored = context().records.keys.get(key_id) if is_key_id(key_id) else None
    if stored is None:
        raise ApiError(404, "There is no such key.", code="key_not_found", param="id")
    return stored


def _check_plan(plan: str) -> None:
    if plan not in context().plans:
        raise unknown_plan(list(context().plans))


def _revoked() -> ApiError:
    return ApiError(409, "This key has been revoked.", code="key_revoked", param="id")


def _ends(page: RecordPage[Any]) -> dict[str, Any]:
    """Return the fields of a page without its rows."""
    ids = [row.id for row in page.items]
    return {
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": page.has_more,
        "next": next_url(page.cursor),
    }
