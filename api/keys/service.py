"""Stored keys for the routes and the operator: created, rotated, changed, revoked, each with an audit entry."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.keys.key_format import SHOWN, digest, new_key_text
from config.clock import now_ms, rfc3339
from config.ids import new_id
from protocol.limits import LIMIT_RULES
from records.keys import Actor, NewKey, StoredKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.keys.plans import Plan, Plans
    from records.keys import KeyStore
    from records.usage import UsageStore


audit_log = logging.getLogger("audit")

MAX_LABEL = 64
LABEL_RULE = f"must be at most {MAX_LABEL} of A-Z a-z 0-9 _ . @ - and spaces, with no space at either end"
LABEL_PATTERN = rf"([A-Za-z0-9_.@-]([A-Za-z0-9_.@ -]{{0,{MAX_LABEL - 2}}}[A-Za-z0-9_.@-])?)?"
_LABEL = re.compile(LABEL_PATTERN)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its secret, which is never shown again."""

    text: str
    stored: StoredKey


@dataclass(frozen=True, slots=True)
class RemainingQuota:
    """The remaining runs of a key and the time of their reset; None means no bound, or no reset."""

    runs: int | None = None
    reset_at: str | None = None


class KeyService:
    """The stored keys of a database. `actor` is who does it: `admin`, `operator`, a key's id, an address."""

    def __init__(self, keys: KeyStore, usage: UsageStore, plans: Plans) -> None:
        self._keys = keys
        self._usage = usage
        self._plans = plans

    def make(self, plan: str, actor: str, *, label: str = "") -> IssuedKey:
        """Issue a new key of an existing plan."""
        text, at_ms = new_key_text(), now_ms()
        new = NewKey(new_id("key"), digest(text), text[:SHOWN], plan, at_ms, label)
        stored = self._keys.create(new, Actor(actor, at_ms))
        _audit("key.created", key=stored.id, plan=plan, actor=actor)
        return IssuedKey(text, stored)

    def make_many(self, wanted: Sequence[tuple[str, str]], actor: str) -> list[IssuedKey]:
        """Issue new keys, a plan and a label each, all or none of them."""
        at_ms = now_ms()
        texts = [new_key_text() for _ in wanted]
        new = [
            NewKey(new_id("key"), digest(text), text[:SHOWN], plan, at_ms, label)
            for text, (plan, label) in zip(texts, wanted, strict=True)
        ]
        self._keys.create_many(new, Actor(actor, at_ms))
        _audit("keys.created", keys=len(new), actor=actor)
        return [
            IssuedKey(text, StoredKey(key.id, key.prefix, key.plan, key.label, False, at_ms, None, None))
            for text, key in zip(texts, new, strict=True)
        ]

    def rotate(self, key_id: str, current: bytes, *, grace_s: int) -> IssuedKey | None:
        """Issue a new secret for the key whose present secret has that digest; return None if it has another by
        now.
        """
        text, at_ms = new_key_text(), now_ms()
        stored = self._keys.rotate(
            key_id,
            Actor(key_id, at_ms),
            digest=digest(text),
            prefix=text[:SHOWN],
            previous_until_ms=at_ms + grace_s * 1000,
            current=current,
        )
        if stored is None:
            return None
        _audit("key.rotated", key=key_id, actor=key_id)
        return IssuedKey(text, stored)

    def change(self, key_id: str, actor: str, *, plan: str | None, disabled: bool | None) -> StoredKey | None:
        """Change what is given; None for a key that is not there or revoked."""
        stored = self._keys.update(key_id, Actor(actor, now_ms()), plan=plan, disabled=disabled)
        if stored is not None:
            given = {"plan": plan, "disabled": disabled}
            _audit("key.changed", key=key_id, actor=actor, **{n: v for n, v in given.items() if v is not None})
        return stored

    def revoke(self, key_id: str, actor: str) -> bool:
        """End a key for good; False if it is not there or revoked."""
        done = self._keys.revoke(key_id, Actor(actor, now_ms()))
        if done:
            _audit("key.revoked", key=key_id, actor=actor)
        return done

    def left(self, key: StoredKey) -> RemainingQuota:
        """Return the remaining runs of the key."""
        plan, at_ms = self._plans.get(key.plan), now_ms()
        if plan is None or plan.runs is None:
            return RemainingQuota()
        resets_at_ms = plan.resets_at_ms(at_ms)
        return RemainingQuota(
            max(0, plan.runs - self._usage.counted(key.id, plan.period_at(at_ms))),
            None if resets_at_ms is None else rfc3339(resets_at_ms),
        )


def is_label(text: str) -> bool:
    """Return whether a text is safe as a label in a log and on a page."""
    return _LABEL.fullmatch(text) is not None


def _audit(event: str, **about: object) -> None:
    # As `api.http.access_log.audit` does, which this must not stand on: the operator's tool has no Flask.
    audit_log.info(event, extra={"event": event, **about})


def ceilings(plan: Plan | None) -> dict[str, int | float]:
    """Return the ceiling of each run limit; the service's own where there is no plan."""
    if plan is not None:
        return plan.ceilings()
    return {name: rule.number(rule.ceiling) for name, rule in LIMIT_RULES.items()}
