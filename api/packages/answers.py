"""The answers about layers of packages, for the specification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.openapi.models import Count, ResponseModel, Time

SHA256 = r"^[0-9a-f]{64}$"


class LayerPackage(ResponseModel):
    """A package of a layer, as it was resolved."""

    name: str
    version: str
    sha256: Annotated[str, Field(pattern=SHA256)] = Field(description="The hash of the registry's file.")


class PackageLayer(ResponseModel):
    """A layer: the packages of a run or session, installed once and read by all that ask for them."""

    id: str
    object: Literal["layer"]
    language: str
    packages: list[LayerPackage] = Field(description="All that was installed, dependencies too.")
    size: Count = Field(description="Bytes on the disk.")
    created_at: Time
