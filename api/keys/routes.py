"""`/v1/keys`: create, show, rotate and revoke a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, g, request

from api.context import client, context, limit_anonymous, require_caller
from api.errors import JSON, ApiError
from api.http.body import DRAIN_UNAUTHENTICATED_S, drain, parse_object, read_json_body
from api.http.json_response import document_response
from api.keys.plans import SELF_SERVICE
from api.keys.schemas import KeyDeletedOut, KeyOut, NewKeyIn, NewKeyOut, RotatedKeyOut, label_of, parsed
from api.keys.service import KeyService, ceilings
from api.openapi import examples_keys as examples
from api.openapi.decorator import Json, RequestBody, operation
from api.openapi.error_codes import JSON_BODY
from config.clock import rfc3339

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api.keys.authentication import Caller
    from api.keys.service import IssuedKey
    from records.keys import StoredKey

blueprint = Blueprint("keys", __name__)

#: Of the body of a call about keys.
MAX_BODY_BYTES = 16 * 1024
_KEY_ID = re.compile(r"key_[A-Za-z0-9]{20,64}")


@blueprint.post("/v1/keys")
@operation(
    "Create a key for yourself",
    tag="keys",
    description="A key of the plan `free`, without sign-up, if the service allows it. The body is optional.",
    auth=("none",),
    body=RequestBody({JSON: NewKeyIn}, {"labelled": {"label": "laptop"}}, required=False),
    answers={201: Json("The key. Its secret is shown only here.", NewKeyOut, {"made": examples.NEW_KEY})},
    errors=(*JSON_BODY, "self_service_off", "rate_limit_exceeded", "records_unavailable"),
)
def create_key() -> Response:
    """Create a key of the plan `free` for any client, if self-service is on.

    201 the key, shown this once; 400; 403 self-service is off; 413; 429 too many of this address.
    """
    try:
        require_self_service()
        label = label_of(parsed(NewKeyIn, small_body()).label)
    except ApiError:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise
    made = issue_self_service(label)
    stored = made.stored
    created_at = rfc3339(stored.created_at_ms)
    return answer(
        NewKeyOut(id=stored.id, object="key", key=made.text, plan=stored.plan, created_at=created_at), 201
    )


@blueprint.get("/v1/keys/me")
@operation("Get your key", tag="keys", answers={200: Json("The key.", KeyOut, {"free": examples.KEY})})
def get_key() -> Response:
    """Return the calling key, even if it is disabled."""
    caller = require_caller(reading=True, disabled_too=True)
    stored = caller.stored
    return answer(KeyOut(**(static_key_fields(caller) if stored is None else key_fields(stored))))


@blueprint.post("/v1/keys/me/rotate")
@operation(
    "Rotate your key",
    tag="keys",
    description=(
        "Issues a new secret. The old one stays valid for a while; a secret that was rotated before cannot be "
        "rotated again."
    ),
    answers={
        201: Json("The key. Its secret is shown only here.", RotatedKeyOut, {"rotated": examples.ROTATED_KEY})
    },
    errors=("static_key", "key_already_rotated"),
)
def rotate_key() -> Response:
    """Give the key a new text; the old one stays good for a while. 409 for one that is old already, or static."""
    caller = require_caller(reading=False)
    drain(request, DRAIN_UNAUTHENTICATED_S)
    stored = _stored(caller)
    made = keyring().rotate(stored.id, caller.digest, grace_s=context().settings.key_grace_s)
    if made is None:
        raise ApiError(
            409, "This secret was rotated before: only the newest one can be rotated.", code="key_already_rotated"
        )
    new = made.stored
    assert new.previous_until_ms is not None
    return answer(
        RotatedKeyOut(
            id=new.id,
            object="key",
            key=made.text,
            plan=new.plan,
            created_at=rfc3339(new.created_at_ms),
            previous_valid_until=rfc3339(new.previous_until_ms),
        ),
        201,
    )


@blueprint.delete("/v1/keys/me")
@operation(
    "Revoke your key",
    tag="keys",
    description="Immediate and permanent.",
    answers={200: Json("The key is revoked.", KeyDeletedOut)},
    errors=("static_key",),
)
def delete_key() -> Response:
    """End the key at once and for good. A rotated key ends it too, while it is good: leaks must be stopped."""
    stored = _stored(require_caller(reading=False))
    keyring().revoke(stored.id, stored.id)
    return answer(KeyDeletedOut(id=stored.id, object="key", deleted=True))


# -- for dialects too ------------------------------------------------------------------------------


def require_self_service() -> None:
    """Check that this client may ask for a key of its own. Raises ApiError 403 or 429."""
    limit_anonymous()
    if not context().settings.self_service:
        raise ApiError(403, "Self-service keys are disabled: ask the operator for a key.", code="self_service_off")


def issue_self_service(label: str = "") -> IssuedKey:
    """Issue a key of the plan `free` to this client. Raises ApiError 429 for one too many of its address."""
    decision = context().limiter.new_key(client())
    g.rate_headers = decision.headers()
    if not decision.allowed:
        raise ApiError(
            429,
            f"This address may make {decision.limit} keys an hour; try again in {decision.retry_after} s.",
            code="rate_limit_exceeded",
            headers={"Retry-After": decision.retry_after},
        )
    return keyring().make(SELF_SERVICE, client()[:64], label=label)


# -- for the admin calls too -----------------------------------------------------------------------


def keyring() -> KeyService:
    """Return the service of stored keys."""
    return KeyService(context().records.keys, context().records.usage, context().plans)


def key_fields(stored: StoredKey) -> dict[str, Any]:
    """Return the fields of `KeyOut` for a stored key."""
    left = keyring().left(stored)
    return {
        "id": stored.id,
        "object": "key",
        "plan": stored.plan,
        "created_at": rfc3339(stored.created_at_ms),
        "prefix": stored.prefix,
        "label": stored.label,
        "limits": ceilings(context().plans.get(stored.plan)),
        "runs_left": left.runs,
        "runs_reset_at": left.reset_at,
        "disabled": stored.disabled,
    }


def static_key_fields(caller: Caller) -> dict[str, Any]:
    """Return the fields of `KeyOut` for a static key."""
    return {
        "id": caller.id,
        "object": "key",
        "plan": None,
        "created_at": None,
        "prefix": None,
        "label": caller.label,
        "limits": ceilings(None),
        "runs_left": None,
        "runs_reset_at": None,
        "disabled": False,
    }


def static_key() -> ApiError:
    """Return the error for a change of a static key."""
    return ApiError(409, "This key is defined in API_KEYS and can only be changed there.", code="static_key")


def small_body() -> dict[str, Any]:
    """Return the JSON object of a request; {} without a body. Raises ApiError 400, 413 or 415."""
    length = request.content_length
    if length is not None and length > MAX_BODY_BYTES:
        drain(request, DRAIN_UNAUTHENTICATED_S)
        raise ApiError(
            413, f"The body is larger than the maximum of {MAX_BODY_BYTES} bytes.", code="request_too_large"
        )
    if not length and "HTTP_TRANSFER_ENCODING" not in request.environ:
        return {}
    data = read_json_body(request)
    if len(data) > MAX_BODY_BYTES:
        raise ApiError(
            413, f"The body is larger than the maximum of {MAX_BODY_BYTES} bytes.", code="request_too_large"
        )
    return parse_object(data) if data else {}


def is_key_id(text: str) -> bool:
    """Return whether the text has the form of a stored key's id."""
    return _KEY_ID.fullmatch(text) is not None


def answer(body: BaseModel, status: int = 200) -> Response:
    """Return a response with a body of that model."""
    return document_response(body.model_dump_json(by_alias=True).encode(), status)


def _stored(caller: Caller) -> StoredKey:
    if caller.stored is None:
        raise static_key()
    return caller.stored
