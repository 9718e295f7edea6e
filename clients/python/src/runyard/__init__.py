"""Run untrusted code with Runyard, from Python.

    from runyard import Client

    with Client() as client:
        print(client.runs.create("python", "print(1+1)").stdout)

`AsyncClient` has the same calls for asyncio. The command line is `runyard`.
"""

from __future__ import annotations

from runyard._aio import AsyncEventStream
from runyard._calls import InlineFile, Limits, RunOptions
from runyard._function_calls import CallOptions, FunctionOptions
from runyard._retry import RetryPolicy
from runyard._session_calls import (
    ProcessOptions,
    SessionChange,
    SessionLimits,
    SessionNetwork,
    SessionOptions,
)
from runyard._sync import EventStream
from runyard._version import __version__
from runyard.aio import AsyncClient
from runyard.aiosessions import AsyncProcessStream, AsyncSession
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
from runyard.function_models import Function
from runyard.models import (
    Artifact,
    Compile,
    Event,
    File,
    Hint,
    Key,
    Language,
    Page,
    Run,
    RunException,
    RunResult,
    SkippedArtifact,
    Usage,
)
from runyard.saving import save_artifacts
from runyard.session_models import Entry, Process, SessionInfo, SessionToken
from runyard.sessions import ProcessStream, Session

__all__ = [
    "ApiError", "Artifact", "AsyncClient", "AsyncEventStream", "AsyncProcessStream", "AsyncSession",
    "AuthenticationError", "BadRequest", "CallOptions", "Client", "Compile", "Config", "ConfigError",
    "Conflict", "ConnectionFailed", "DownloadError", "Entry", "Event", "EventStream", "File", "Function",
    "FunctionOptions", "Hint", "InlineFile", "Key", "Language", "Limits", "NotFound", "Page",
    "PermissionDenied", "Process", "ProcessOptions", "ProcessStream", "ProtocolError", "RateLimited",
    "RetryPolicy", "Run", "RunException", "RunOptions", "RunResult", "RunyardError", "SaveError", "ServerError",
    "Session", "SessionChange", "SessionInfo", "SessionLimits", "SessionNetwork", "SessionOptions",
    "SessionToken", "SkippedArtifact", "StreamLost", "Unavailable", "Usage", "__version__", "save_artifacts",
]  # fmt: skip
