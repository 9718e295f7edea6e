"""Make every call about the contexts of a session an operation that a driver completes; both clients use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runyard._retry import RetryPolicy, exchange
from runyard._steps import Call, Operation, parsed
from runyard.models import Row
from runyard.session_models import Completions, Context, Inspection

if TYPE_CHECKING:
    from runyard._steps import Reply

_JSON = {"Content-Type": "application/json"}


class ContextOperations:
    """The calls about the contexts of one session."""

    def __init__(self, policy: RetryPolicy, session_id: str) -> None:
        self._policy = policy
        self._path = f"/v1/sessions/{quote(session_id, safe='')}/contexts"

    def create(
        self, language: str | None, name: str | None, cwd: str | None, env: Mapping[str, str] | None
    ) -> Operation[Context]:
        """Create a context. It is not repeated after a lost answer: each call makes another."""
        fields = {"language": language, "name": name, "cwd": cwd, "env": None if env is None else dict(env)}
        body = {key: value for key, value in fields.items() if value is not None}
        return Context.of(parsed((yield from self._sent(self._path, body, safe=False)).body))

    def list(self) -> Operation[list[Context]]:
        """List the contexts, the oldest first."""
        reply = yield from exchange(Call("GET", self._path), self._policy)
        return [Context.of(item) for item in Row(parsed(reply.body), "list").items("data")]

    def act(self, context: Context | str, action: str) -> Operation[Context]:
        """Restart a context, or interrupt it."""
        return Context.of(parsed((yield from self._sent(f"{self._of(context)}/{action}", {}, safe=False)).body))

    def delete(self, context: Context | str) -> Operation[None]:
        """Delete a context."""
        yield from exchange(Call("DELETE", self._of(context), safe=False), self._policy)

    def complete(self, context: Context | str, code: str, cursor: int | None) -> Operation[Completions]:
        """Find the ways in which code can go on at a cursor."""
        reply = yield from self._sent(f"{self._of(context)}/complete", _at(code, cursor))
        return Completions.of(parsed(reply.body))

    def inspect(self, context: Context | str, code: str, cursor: int | None) -> Operation[Inspection]:
        """Find the documentation of the name at a cursor."""
        reply = yield from self._sent(f"{self._of(context)}/inspect", _at(code, cursor))
        return Inspection.of(parsed(reply.body))

    def _of(self, context: Context | str) -> str:
        name = context.id if isinstance(context, Context) else context
        if not name or name in (".", ".."):
            raise ValueError("context: must not be empty, . or ..")
        return f"{self._path}/{quote(name, safe='')}"

    def _sent(self, path: str, body: dict[str, Any], *, safe: bool = True) -> Operation[Reply]:
        call = Call("POST", path, body=json.dumps(body).encode(), headers=_JSON, safe=safe)
        return (yield from exchange(call, self._policy))


def _at(code: str, cursor: int | None) -> dict[str, Any]:
    return {"code": code, "cursor": len(code) if cursor is None else cursor}
