"""Handle the requests that bring a live run input or a signal.

`{"op":"run_stdin","run_id":R,"close":B}` and then pieces; `{"op":"run_signal","run_id":R,"number":N}`: both are
    answered by `{"input":{"taken":true|false}}`: false if there is no such run alive, or it was started without
    `stdin_open`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.result import Refusal

if TYPE_CHECKING:
    from worker.handlers import Connection
    from worker.runs import RunTable

#: Seconds after which input that a program does not take is given up.
INPUT_S = 60.0


class RunInputHandlers:
    """Passes input and signals on to the runs of one worker."""

    def __init__(self, runs: RunTable) -> None:
        self._runs = runs

    def stdin(self, request: dict[str, Any], connection: Connection) -> None:
        """Pass input on as the program reads it. Raises ConnectionError when it does not read for long."""
        live = self._runs.get(str(request.get("run_id")))
        taken = live is not None and live.ask(lambda _inbox: None)
        for piece in connection.pieces():
            if live is not None and taken:
                if not live.wait_for_room(INPUT_S):
                    raise ConnectionError("the program does not read its input")
                taken = live.ask(lambda inbox, piece=piece: inbox.put(piece))  # type: ignore[misc]
        if live is not None and taken and request.get("close"):
            taken = live.ask(lambda inbox: inbox.close())
        connection.send({"input": {"taken": taken}})

    def signal(self, request: dict[str, Any], connection: Connection) -> None:
        """Pass a signal on."""
        number = request.get("number")
        if not isinstance(number, int) or not 1 <= number <= 64:
            connection.refuse(Refusal(400, "signal: is none", "invalid_value", "signal"))
            return
        live = self._runs.get(str(request.get("run_id")))
        taken = live is not None and live.ask(lambda inbox: inbox.put_signal(number))
        connection.send({"input": {"taken": taken}})
