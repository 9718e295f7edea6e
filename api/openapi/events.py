"""The events of a run as models: one object a line, or the data of a server-sent event."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from api.openapi.models import (
    Artifact,
    Count,
    ErrorObject,
    ResponseModel,
    Run,
    RunException,
    RunId,
    RunResult,
    Time,
    may_be_absent,
)
from protocol.states import LiveStatus


class Numbered(ResponseModel):
    """The fields of every event."""

    seq: Annotated[int, Field(ge=1, description="Numbered from 1, without gaps.")]
    t_ms: Count = Field(description="Time since the run was accepted.")


class InfoData(ResponseModel):
    """The state of the run."""

    id: RunId
    language: str
    status: LiveStatus
    at: Time
    position: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Position in the queue while `queued`; 1 is next.",
        json_schema_extra=may_be_absent,
    )
    output: str | None = Field(
        default=None,
        description="A line of the tool that installs the packages, while `queued`.",
        json_schema_extra=may_be_absent,
    )
    queue_ms: Count | None = Field(
        default=None,
        description="Time in the queue, once `running`.",
        json_schema_extra=may_be_absent,
    )


class PhaseData(ResponseModel):
    """The phase that starts."""

    name: Literal["compile", "run"]


class Info(Numbered):
    """The run is queued, or has started."""

    event: Literal["info"]
    data: InfoData


class Phase(Numbered):
    """The compile phase or the program starts."""

    event: Literal["phase"]
    data: PhaseData


class Output(Numbered):
    """A piece of the program's output. All pieces together are the output of the result."""

    event: Literal["stdout", "stderr"]
    data: str


class Collected(Numbered):
    """A file that has been collected."""

    event: Literal["artifact"]
    data: Artifact


class Displayed(Numbered):
    """A result of a cell."""

    event: Literal["display"]
    data: RunResult


class ClearData(ResponseModel):
    """The way in which displays are cleared."""

    wait: bool = Field(description="Only when the next display comes.")


class Cleared(Numbered):
    """The displays so far are obsolete."""

    event: Literal["clear"]
    data: ClearData


class Raised(Numbered):
    """The exception that ends the cell."""

    event: Literal["exception"]
    data: RunException


class Keepalive(Numbered):
    """A keepalive: no event for five seconds."""

    event: Literal["keepalive"]
    data: None


class ResultEvent(Numbered):
    """The run has ended: the last event, unless it is `error`."""

    event: Literal["result"]
    data: Run


class ErrorEvent(Numbered):
    """The service failed the run: the last event."""

    event: Literal["error"]
    data: ErrorObject


class Event(
    RootModel[
        Annotated[
            Info | Phase | Output | Displayed | Cleared | Raised | Collected | Keepalive | ResultEvent | ErrorEvent,
            Field(discriminator="event"),
        ]
    ]
):
    """One event of a run."""
