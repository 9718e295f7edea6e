"""One run that is a cell of a context: its kernel executes it; its results and its exception are kept."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import orjson

from protocol.kernel import ExceptionFacts
from sandbox.sessions.channel import ChannelEnded, ProcessEnd
from sandbox.sessions.kernel import KernelEnded
from sandbox.sessions.kernel_replies import ResultList, exception_of
from sandbox.sessions.session_run import KILL_TIMEOUT_S, SessionRun

if TYPE_CHECKING:
    from protocol.kernel import KernelState
    from protocol.result import Result
    from sandbox.sessions.channel import SessionChannel
    from sandbox.sessions.contexts import KernelContext
    from sandbox.sessions.kernel_replies import KernelMessage

#: Seconds that an interrupted cell has to end before its kernel is killed.
INTERRUPTED_S = 2.0
#: A kernel that must be started first has so many seconds more.
START_S = 5.0
MAX_EXIT_CODE = 255


class CellRun(SessionRun):
    """One cell under way."""

    def __init__(self, context: KernelContext, *facts: Any) -> None:  # noqa: ANN401  # those of SessionRun
        """`facts` are the arguments of SessionRun."""
        super().__init__(*facts)
        self._context = context
        self._results = ResultList()
        self._exception: ExceptionFacts | None = None
        self._count: int | None = None
        self._state: KernelState = "kept"
        #: When its time is over, or a harder step to end it is due, in monotonic seconds.
        self._deadline = 0.0
        self._is_killed = False

    def result(self) -> Result:
        """See SessionRun."""
        try:
            return super().result()
        finally:
            if self._state == "lost" or self._context.is_deleted:
                self._context.stop()

    def _note_outputs(self) -> None:
        if self._context.language.names_outputs:
            self._outputs.note_last()  # for a kernel that dies; else it says itself
        else:
            self._outputs.note()

    def _program(self) -> ProcessEnd:
        """Execute the cell. Raises ChannelEnded or SessionGone with the session."""
        self._state = "lost"  # until the kernel has reported the end
        self._look_for_company()
        try:
            self._deadline = time.monotonic() + self._plan.limits.timeout_ms / 1000 + START_S
            kernel = self._context.running(self._take_output, self._between, self._is_wanted)
            self._deadline = time.monotonic() + self._plan.limits.timeout_ms / 1000
            env = self._context.later_env() | dict(self._plan.env)
            done = kernel.ask(
                {"op": "execute", "env": env, "results": True, "outputs": self._outputs.path},
                {"code": self._plan.code or b"", "stdin": self._plan.stdin},
                last="done",
                on_output=self._take_output,
                on_message=self._take_message,
                between=self._between,
            )
        except KernelEnded as e:
            return e.end
        finally:
            self._look_for_company()
        if (changed := done.parts.get("changed")) is not None and self._context.language.names_outputs:
            self._outputs.expect(frozenset(changed.split(b"\0")) if changed else frozenset())
        self._state = "kept"
        self._count = _number(done.header.get("execution_count"), 2**31)
        self._results.dropped += _number(done.header.get("dropped"), 2**31) or 0
        return ProcessEnd(exit_code=_number(done.header.get("exit_code"), MAX_EXIT_CODE) or 0)

    def _between(self, channel: SessionChannel) -> bool:
        """Wait until something can be taken out of the channel. Returns whether it may be taken now.

        Raises ChannelEnded with the session, which is ended where a killed kernel does not end.
        """
        self._check_end(channel)
        self._sleep(channel, min(self._next_check(), self._live.log.due()))
        self._live.tick()
        return not self._live.is_backpressured

    def _next_check(self) -> float:
        """Return when it must be looked again whether the cell's time is over, in monotonic seconds."""
        return self._deadline

    def _check_end(self, channel: SessionChannel) -> None:
        """Interrupt the cell when its time is over or it is not wanted any more, and later kill its kernel."""
        moment = time.monotonic()
        is_late = moment >= self._deadline
        if not (self._timed_out or self._is_stopped):
            if self._live.stop is not None or is_late:
                self._timed_out, self._is_stopped = is_late, not is_late
                channel.signal(signal.SIGINT)
                self._deadline = moment + INTERRUPTED_S
        elif is_late and not self._is_killed:
            self._is_killed = True
            channel.kill()
            self._deadline = moment + KILL_TIMEOUT_S
        elif is_late:
            self._lose(self._session, "a kernel that was killed does not end")
            raise ChannelEnded

    def _is_wanted(self) -> bool:
        """Return whether nothing has ended the cell yet."""
        return not (self._timed_out or self._is_stopped)

    def _look_for_company(self) -> None:
        others = (one for one in self._session.contexts.all() if one is not self._context)
        self._company.look(others=any(not one.order.is_free for one in others))

    def _take_message(self, message: KernelMessage) -> None:
        kind = message.header.get("type")
        if kind == "display":
            encoded = self._results.add(message)
            if encoded is not None:
                self._live.emit("display", orjson.Fragment(encoded))
        elif kind == "clear":
            self._live.emit("clear", {"wait": message.header.get("wait") is True})
        elif kind == "exception" and self._exception is None:
            self._exception = exception_of(message.parts)
            self._live.emit("exception", asdict(self._exception))

    def _raised(self) -> str:
        return "" if self._exception is None else "\n".join(self._exception.traceback)

    def _as_result(self, *facts: Any) -> Result:  # noqa: ANN401  # those of SessionRun
        return replace(
            super()._as_result(*facts),
            context=self._context.id,
            execution_count=self._count,
            state=self._state,
            exception=self._exception,
            results=tuple(map(orjson.Fragment, self._results.encoded)),
            results_dropped=self._results.dropped,
        )


def _number(value: object, most: int) -> int | None:
    """Return a number that a kernel has sent; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None
