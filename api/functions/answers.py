"""The models of the answers about functions; see `api.openapi.models`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.openapi.models import Count, ResponseModel, Time, may_be_absent

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class FunctionFile(ResponseModel):
    """A file of a function, as it came."""

    path: str
    content: str
    encoding: Literal["utf-8", "base64"] | None = Field(default=None, json_schema_extra=may_be_absent)
    id: None = Field(default=None, json_schema_extra=may_be_absent)
    root: None = Field(default=None, json_schema_extra=may_be_absent)


class FunctionSummary(ResponseModel):
    """A version of a function, without its source and log."""

    name: Name
    object: Literal["function"]
    version: Count
    state: Literal["building", "ready", "failed"] = Field(description="The outcome of its build.")
    language: str
    packages: list[str]
    limits: dict[str, float] = Field(description="Those that were given.")
    env_names: list[str] = Field(description="The names of its environment's variables; values are never returned.")
    description: str | None
    input_schema: dict[str, Any] | None
    layer: str | None
    created_at: Time = Field(description="Of the function's first version.")
    updated_at: Time = Field(description="When this version was deployed, or its build ended.")


class Function(FunctionSummary):
    """A version of a function."""

    log: str = Field(description="The output of its build.")
    code: str | None
    files: list[FunctionFile]
    entrypoint: str | None


class FunctionList(ResponseModel):
    """A page of functions: of each its newest ready version, or else its newest."""

    object: Literal["list"]
    data: list[FunctionSummary]
    first_id: str | None = Field(description="The name of the first function.")
    last_id: str | None = Field(description="The name of the last function: `after` of the next page.")
    has_more: bool
    next: str | None = Field(description="The link to the next page, with the same filters; null on the last one.")


class FunctionDeleted(ResponseModel):
    """The function was deleted, with all its versions."""

    name: Name
    object: Literal["function"]
    deleted: Literal[True]
