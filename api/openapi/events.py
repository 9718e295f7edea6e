"""The events of a run as models: one object a line, or the data of a server-sent event."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from api.openapi.models import Artifact, Count, ErrorObject, ResponseModel, Run, RunId, Time, may_be_absent
from protocol.states import LiveStatus


class Numbered(ResponseModel):
    """What every event has."""

    seq: Annotated[int, Field(ge=1, description="From 1, without a gap.")]
    t_ms: Count = Field(description="Since the run was accepted.")


class InfoData(ResponseModel):
    """Where the run stands."""

    id: RunId
    language: str
    status: LiveStatus
    at: Time
    position: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="In the queue, while it is `queued`; 1 is next.",
        json_schema_extra=may_be_absent,
    )
    queue_ms: Count | None = Field(
        default=None,
        description="How long it waited, once it is `running`.",
        json_schema_extra=may_be_absent,
    )


class PhaseData(ResponseModel):
    """What begins."""

    name: Literal["compile", "run"]


class Info(Numbered):
    """The run waits, or has begun."""

    event: Literal["info"]
    data: InfoData


class Phase(Numbered):
    """Compiling begins, or the program."""

    event: Literal["phase"]
    data: PhaseData


class Output(Numbered):
    """A piece of what the program wrote; together they are the result's."""

    event: Literal["stdout", "stderr"]
    data: str


class Collected(Numbered):
    """A file that has been collected."""

    event: Literal["artifact"]
    data: Artifact


class Keepalive(Numbered):
    """Five seconds passed in silence."""

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
            Info | Phase | Output | Collected | Keepalive | ResultEvent | ErrorEvent, Field(discriminator="event")
        ]
    ]
):
    """One event of a run."""
