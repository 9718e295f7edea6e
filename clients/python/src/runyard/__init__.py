"""Run untrusted code with Runyard, from Python.

    from runyard import Client

    with Client() as client:
        print(client.runs.create("python", "print(1+1)").stdout)

`AsyncClient` has the same calls for asyncio. The command line is `runyard`.
"""

from __future__ import annotations

from runyard._aio import AsyncEventStream
from runyard._calls import InlineFile, Limits, RunOptions
from runyard._retry import RetryPolicy
from runyard._sync import EventStream
from runyard._version import __version__
from runyard.aio import AsyncClient
from runyard.client import Client
from runyard.config import Config
from runyard.errors import (
    ApiError,
    AuthenticationError,
    BadRequest,
    ConfigError,
    Conflict,
    ConnectionFailed,
    DownloadError,
    NotFound,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    RunyardError,
    SaveError,
    ServerError,
    StreamLost,
    Unavailable,
)
from runyard.models import Artifact, Compile, Event, File, Key, Language, Page, Run, SkippedArtifact, Usage
from runyard.saving import save_artifacts

__all__ = [
    "ApiError", "Artifact", "AsyncClient", "AsyncEventStream", "AuthenticationError", "BadRequest", "Client",
    "Compile", "Config", "ConfigError", "Conflict", "ConnectionFailed", "DownloadError", "Event", "EventStream",
    "File", "InlineFile", "Key", "Language", "Limits", "NotFound", "Page", "PermissionDenied", "ProtocolError",
    "RateLimited", "RetryPolicy", "Run", "RunOptions", "RunyardError", "SaveError", "ServerError",
    "SkippedArtifact", "StreamLost", "Unavailable", "Usage", "__version__", "save_artifacts",
]  # fmt: skip
