"""The contexts of a session: interpreters that keep their variables from one run to the next."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from config.clock import now
from config.ids import new_id
from protocol.kernel import MAX_CONTEXTS
from protocol.network import proxy_environment
from sandbox.languages import KERNEL_FLAVOUR
from sandbox.sessions.kernel import READY_TIMEOUT_S, Kernel, KernelEnded, wait_readable
from sandbox.sessions.order import RunOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.languages import Language
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.kernel_replies import KernelMessage
    from sandbox.sessions.session import LiveSession


#: Seconds that a kernel has to answer an editor's question.
ANSWER_S = 5.0
LOOK_S = 0.5


class TooManyContexts(Exception):
    """The session has as many contexts as one may."""


class ContextNameTaken(Exception):
    """Another context of the session has the name."""


def _look(channel: SessionChannel) -> bool:
    """Wait a moment for what a kernel sends."""
    wait_readable(channel, LOOK_S)
    return True


@dataclass(eq=False)
class KernelContext:
    """One context. `order` is that of its runs; its kernel is started for the first of them."""

    session: LiveSession
    language: Language
    cwd: str
    name: str | None
    env: Mapping[str, str]
    #: The default context of the session's language, which every session has from its first run on.
    is_default: bool = False
    id: str = field(default_factory=lambda: new_id("ctx"))
    created_at: str = field(default_factory=now)
    order: RunOrder = field(default_factory=RunOrder)
    #: The kernel, if one is alive; used by whose turn it is in `order`.
    kernel: Kernel | None = None
    #: A kernel that was started before its first run, and not waited for yet.
    ahead: Kernel | None = None
    is_deleted: bool = False
    #: True if its kernel was killed for a new one, which the next run starts.
    must_restart: bool = False
    #: True if its kernel was started in a session that has a network, and so knows of its proxy.
    knows_proxy: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the context object."""
        return {
            "id": self.id,
            "object": "context",
            "name": self.name,
            "language": self.language.id,
            "cwd": self.cwd,
            "created_at": self.created_at,
        }

    def running(
        self,
        on_output: Callable[[str, bytes], None] = lambda _name, _data: None,
        between: Callable[[SessionChannel], bool] | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Kernel:
        """Return its kernel, started if there is none; `on_output` gets what one writes that cannot start.

        `between` is called while it starts: see `Kernel.ask`. It bounds the time; without it READY_TIMEOUT_S does.
        If the kernel ends when it `is_wanted` no more, no other is started. Raises KernelEnded, TooManyChannels,
        ChannelEnded.
        """
        if self.must_restart or (self.kernel is not None and self.kernel.is_over):
            self.must_restart = False
            self.stop()
        if self.kernel is None:
            ready = partial(_ready, between=between or _look, within_s=None if between else READY_TIMEOUT_S)
            self.kernel = self._started(on_output, ready, is_wanted)
        return self.kernel

    def later_env(self) -> dict[str, str]:
        """Return variables for every cell: those that the session has got after its kernel was started."""
        if self.session.spec.network is None or self.knows_proxy:
            return {}
        return {name: value for name, value in proxy_environment().items() if name not in self.env}

    def start_ahead(self) -> bool:
        """Start its kernel, which its first run waits for. Returns False if that would be no fork of what is there.

        Raises SessionGone, TooManyChannels.
        """
        is_template = self.session.sandbox.facts().source == "template"
        has_modules = any(flavour.name == KERNEL_FLAVOUR for flavour in self.language.flavours)
        if not (is_template and has_modules and self._may_fork()):
            return False
        self.ahead = Kernel(self._open_kernel(is_ahead=True))
        return True

    def _started(
        self,
        on_output: Callable[[str, bytes], None],
        ready: Callable[[Kernel, Callable[[str, bytes], None]], Kernel],
        is_wanted: Callable[[], bool],
    ) -> Kernel:
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            self.session.stream.claim_kernel()
            try:
                kernel = ready(ahead, lambda _name, _data: None)
                if not kernel.is_over:
                    return kernel
            except KernelEnded:
                if not is_wanted():
                    raise
            ahead.close()  # a program of the session has killed it
        return ready(Kernel(self._open_kernel()), on_output)

    def _may_fork(self) -> bool:
        """Return whether its kernel may be a fork of the sandbox's interpreter, that of the session's language."""
        given = {**self.session.spec.env, **self.env}
        return self.language is self.session.language and not self.language.affects_startup(given, (), ())

    def _open_kernel(self, *, is_ahead: bool = False) -> SessionChannel:
        self.knows_proxy = self.session.spec.network is not None
        own = {**self.language.live_env, **self.env}
        variables = {name.encode(): value.encode() for name, value in own.items()}
        argv = [text.encode() for text in self.language.kernel_argv]
        return self.session.stream.start_kernel(
            argv, variables, self.cwd.encode(), may_fork=self._may_fork(), is_ahead=is_ahead
        )

    def restart(self) -> None:
        """Kill its kernel, and a run in it; the next run starts another."""
        self.must_restart = True
        kernel = self.kernel
        if kernel is not None:
            kernel.kill()

    def interrupt(self) -> None:
        """Interrupt the run that is under way, if one is."""
        kernel = self.kernel
        if kernel is not None and not self.order.is_free:
            kernel.interrupt()

    def ask(self, operation: str, code: str, cursor: int) -> KernelMessage:
        """Return the kernel's answer to `complete` or `inspect`, started if there is none.

        One that does not answer is ended. Raises KernelEnded, TooManyChannels, ChannelEnded.
        """
        kernel = self.running()
        deadline = time.monotonic() + ANSWER_S

        def between(channel: SessionChannel) -> bool:
            if time.monotonic() > deadline:
                self.restart()
            wait_readable(channel, LOOK_S)
            return True

        return kernel.ask(
            {"op": operation, "cursor": cursor},
            {"code": code.encode()},
            last=operation,
            on_output=lambda _name, _data: None,
            on_message=lambda _message: None,
            between=between,
        )

    def stop(self) -> None:
        """End its kernel, if there is one; the next run starts another."""
        kernels = (self.kernel, self.ahead)
        self.kernel = self.ahead = None
        for kernel in kernels:
            if kernel is not None:
                kernel.close()


def _ready(
    kernel: Kernel,
    on_output: Callable[[str, bytes], None],
    between: Callable[[SessionChannel], bool],
    within_s: float | None,
) -> Kernel:
    """Return a kernel that was started, once it is ready; one that will not be is closed."""
    try:
        kernel.wait_until_ready(on_output, between, within_s)
    except BaseException:
        kernel.close()
        raise
    return kernel


class ContextTable:
    """The contexts of one session. Safe from any thread."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._contexts: dict[str, KernelContext] = {}
        #: The default context of the session's language before its first run: none that is listed.
        self._ahead: KernelContext | None = None
        self._is_closed = False

    def all(self) -> list[KernelContext]:
        """Return the contexts, the oldest first."""
        with self._lock:
            return list(self._contexts.values())

    def create(self, language: Language, cwd: str, name: str | None, env: Mapping[str, str]) -> KernelContext:
        """Add a context. Raises TooManyContexts, ContextNameTaken."""
        with self._lock:
            if name is not None and any(name in (known.name, known.id) for known in self._contexts.values()):
                raise ContextNameTaken
            return self._added(KernelContext(self._session, language, cwd, name, env))

    def default(self, language: Language) -> KernelContext:
        """Return the default context of a language, added if it is not there. Raises TooManyContexts."""
        with self._lock:
            known = self._known_default(language)
            if known is not None:
                return known
            ahead = self._ahead
            if ahead is None or ahead.language is not language:
                return self._added(self._new_default(language))
            added = self._added(ahead)
            added.created_at, self._ahead = now(), None
            return added

    def start_ahead(self) -> None:
        """Start the kernel that the first run will have, without a context, if it can be forked.

        Without effect after that run. Raises SessionGone, TooManyChannels.
        """
        language = self._session.language
        with self._lock:
            if self._is_closed or self._ahead is not None or self._known_default(language) is not None:
                return
            context = self._new_default(language)
            if context.start_ahead():
                self._ahead = context

    def _known_default(self, language: Language) -> KernelContext | None:
        return next((one for one in self._contexts.values() if one.is_default and one.language is language), None)

    def _new_default(self, language: Language) -> KernelContext:
        return KernelContext(self._session, language, "/work", None, {}, is_default=True)

    def find(self, key: str) -> KernelContext | None:
        """Return the context of that id or name."""
        with self._lock:
            known = self._contexts.get(key)
            if known is not None:
                return known
            return next((one for one in self._contexts.values() if one.name == key), None)

    def delete(self, context: KernelContext) -> None:
        """Remove a context; a run in it ends as one whose kernel was killed."""
        with self._lock:
            self._contexts.pop(context.id, None)
            context.is_deleted = True
        context.restart()
        if context.order.is_free:
            context.stop()

    def close(self) -> None:
        """Give back what the kernels hold here, when the session has ended."""
        with self._lock:
            self._is_closed = True
            ahead, self._ahead = self._ahead, None
        for context in (*self.all(), *([] if ahead is None else [ahead])):
            context.stop()

    def _added(self, context: KernelContext) -> KernelContext:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise TooManyContexts
        self._contexts[context.id] = context
        return context
