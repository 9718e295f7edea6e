"""The states of a run, one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["queued", "running", "error", "cancelled", "timeout", "oom", "killed", "failed", "succeeded"]
#: The states of a run that has not ended.
LiveStatus = Literal["queued", "running"]


@dataclass(frozen=True, slots=True)
class RunState:
    """Describe one state: whether a run in it has ended, and the sentence that explains it to a client.

    The states of ended runs are also the values of the metrics' label `status`.
    """

    status: Status
    ended: bool
    sentence: str


#: Those of ended runs stand in the order of precedence: a run's state is the first whose rule in
#: `sandbox/run/outcome.py` holds.
RUN_STATES: tuple[RunState, ...] = (
    RunState("queued", ended=False, sentence="the run waits for a place"),
    RunState("running", ended=False, sentence="the run has a place and has not ended"),
    RunState("cancelled", ended=True, sentence="you cancelled the run, or its client disconnected"),
    RunState(
        "error",
        ended=True,
        sentence="the service failed, not the program; a waiting client gets a 500 with `run_id`",
    ),
    RunState(
        "timeout",
        ended=True,
        sentence="the program used up its wall-clock or CPU time, or compiling took more than 30 s",
    ),
    RunState(
        "oom",
        ended=True,
        sentence=(
            "the program or its compiler was killed for exceeding its memory, or the program is larger than "
            "its memory"
        ),
    ),
    RunState("killed", ended=True, sentence="the service ended the program for another reason"),
    RunState(
        "failed",
        ended=True,
        sentence=(
            "the program exited with another code or by a signal (`signal` names it, `exit_code` is null), "
            "or it did not compile"
        ),
    ),
    RunState("succeeded", ended=True, sentence="the program exited with code 0"),
)
#: In the order of precedence.
ENDED_STATUSES: tuple[Status, ...] = tuple(state.status for state in RUN_STATES if state.ended)
