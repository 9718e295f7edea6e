"""Claim the requests of services that have no dialect here, so that no other service answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.dialects.shared_paths import Claim
from api.errors import render_envelope
from api.system.unknown_path import path_not_found

if TYPE_CHECKING:
    from flask import Response


def _nobody(_body: bytes, **_parts: str) -> Response:
    raise path_not_found()


#: OpenSandbox's clients send the header, those without a key perhaps not; what they create has one of these keys.
OPEN_SANDBOX = Claim(None, _nobody, render_envelope, header="OPEN-SANDBOX-API-KEY")
OPEN_SANDBOX_BODY = Claim(
    None,
    _nobody,
    render_envelope,
    keys=frozenset({"image", "snapshotId", "entrypoint", "resourceLimits", "extensions"}),
)
#: A header of every request that E2B's clients send into a sandbox.
E2B = Claim(None, _nobody, render_envelope, header="E2b-Sandbox-Id")
#: Jupyter's clients create a session of a kernel for a notebook by these.
JUPYTER_SESSION = Claim(None, _nobody, render_envelope, keys=frozenset({"path", "type", "kernel"}))
