"""The contexts of a session, for threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runyard._context_calls import ContextOperations
from runyard.session_models import Completions, Context, Inspection

if TYPE_CHECKING:
    from runyard.sessions import Session


class Contexts:
    """`session.contexts`: interpreters that keep their variables. One is named by its id or its name."""

    def __init__(self, session: Session) -> None:
        self._operations = ContextOperations(session._operations.policy, session.id)
        self._do = session._do

    def create(
        self,
        language: str | None = None,
        *,
        name: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Context:
        """Create one, by default in the session's language; `session.run(code, context=…)` uses it."""
        return self._do(self._operations.create(language, name, cwd, env))

    def list(self) -> list[Context]:
        """List them, the oldest first."""
        return self._do(self._operations.list())

    def restart(self, context: Context | str) -> Context:
        """Kill its interpreter, and a run in it; the next run starts another."""
        return self._do(self._operations.act(context, "restart"))

    def interrupt(self, context: Context | str) -> Context:
        """Interrupt the run that is under way in it; its variables are kept."""
        return self._do(self._operations.act(context, "interrupt"))

    def delete(self, context: Context | str) -> None:
        """Delete it."""
        self._do(self._operations.delete(context))

    def complete(self, context: Context | str, code: str, cursor: int | None = None) -> Completions:
        """Find the ways in which code can go on at a cursor in characters, by default at its end."""
        return self._do(self._operations.complete(context, code, cursor))

    def inspect(self, context: Context | str, code: str, cursor: int | None = None) -> Inspection:
        """Find the documentation of the name at a cursor in characters, by default at its end."""
        return self._do(self._operations.inspect(context, code, cursor))
