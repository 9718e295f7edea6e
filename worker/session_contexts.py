"""Handle the requests about the contexts of a session; `worker.sessions` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.kernel import MAX_CONTEXTS
from protocol.result import Refusal
from sandbox.languages import kernels_of
from sandbox.sessions.contexts import ContextNameTaken, TooManyContexts
from sandbox.sessions.kernel import KernelEnded
from sandbox.sessions.order import TooManyWaiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.languages import Catalogue, Language
    from sandbox.sessions.contexts import KernelContext
    from sandbox.sessions.session import LiveSession
    from worker.handlers import Connection

NO_CONTEXT = Refusal(404, "there is no such context in this session", "context_not_found", "context")
TOO_MANY = Refusal(409, f"a session has at most {MAX_CONTEXTS} contexts", "too_many_contexts")
NAME_TAKEN = Refusal(409, "name: another context of this session has it", "name_in_use", "name")
BUSY = Refusal(409, "runs are under way in this context; try again later", "session_busy")
KERNEL_ENDED = Refusal(409, "the kernel of this context has ended; its next run starts another", "kernel_ended")


class ContextHandlers:
    """Answers the requests about the contexts of a session that lives."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @property
    def operations(self) -> Mapping[str, Callable[[LiveSession, dict[str, Any], Connection], None]]:
        """Return what is done by name."""
        return {
            "contexts": self._list,
            "context": self._get,
            "create_context": self._create,
            "restart_context": self._restart,
            "interrupt_context": self._interrupt,
            "delete_context": self._delete,
            "ask_context": self._ask,
        }

    def _list(self, session: LiveSession, _request: dict[str, Any], connection: Connection) -> None:
        connection.send({"contexts": [one.to_json() for one in session.contexts.all()]})

    def _get(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        context = _found(session, request, connection)
        if context is not None:
            connection.send({"context": context.to_json()})

    def _create(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        language = self._language(session, request.get("language"))
        if isinstance(language, Refusal):
            connection.refuse(language)
            return
        name = request.get("name")
        env = {str(key): str(value) for key, value in (request.get("env") or {}).items()}
        try:
            with session.in_use():
                made = session.contexts.create(
                    language, str(request.get("cwd") or "/work"), None if name is None else str(name), env
                )
        except TooManyContexts:
            connection.refuse(TOO_MANY)
        except ContextNameTaken:
            connection.refuse(NAME_TAKEN)
        else:
            connection.send({"context": made.to_json()})

    def _language(self, session: LiveSession, name: object) -> Language | Refusal:
        """Return the language of a new context, by default the session's own."""
        language = session.language if name is None else self._catalogue.get(str(name))
        known = sorted(kernels_of(session.language, self._catalogue))
        if language is not None and language.id in known:
            return language
        if not known:
            message = f"a session of {session.language.id} keeps files only, and has no contexts"
            return Refusal(400, message, "not_supported", "language")
        message = f"language: the contexts of this session are of {', '.join(known)}"
        return Refusal(400, message, "not_supported", "language")

    def _restart(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        context = _found(session, request, connection)
        if context is not None:
            with session.in_use():
                context.restart()
            connection.send({"context": context.to_json()})

    def _interrupt(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        context = _found(session, request, connection)
        if context is not None:
            with session.in_use():
                context.interrupt()
            connection.send({"context": context.to_json()})

    def _delete(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        context = _found(session, request, connection)
        if context is not None:
            with session.in_use():
                session.contexts.delete(context)
            connection.send({"context": context.to_json()})

    def _ask(self, session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
        context = _found(session, request, connection)
        if context is None:
            return
        about = "inspect" if request.get("about") == "inspect" else "complete"
        looks = iter((True,))  # waits for one look, and no longer
        try:
            with session.in_use(), context.order.turn(lambda: next(looks, False)) as is_free:
                if not is_free:
                    connection.refuse(BUSY)
                    return
                message = context.ask(about, str(request.get("code")), int(request.get("cursor") or 0))
        except TooManyWaiting:
            connection.refuse(BUSY)
        except KernelEnded:
            connection.refuse(KERNEL_ENDED)
        else:
            parts = {name: data.decode("utf-8", "replace") for name, data in message.parts.items()}
            connection.send({"answer": message.header | parts})


def _found(session: LiveSession, request: dict[str, Any], connection: Connection) -> KernelContext | None:
    context = session.contexts.find(str(request.get("context")))
    if context is None:
        connection.refuse(NO_CONTEXT)
    return context
