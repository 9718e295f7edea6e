"""The run object of API.md: its fields and their order, for a run that waits, runs or has ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ErrorObject, error_type
from api.runs.stored_outputs import marked
from config.clock import now, now_ms, rfc3339
from config.ids import new_id
from protocol.limits import LIMIT_RULES, Limits
from protocol.result import JobError
from protocol.session import RUN_RULES
from protocol.states import ENDED_STATUSES, LiveStatus, Status
from records.files import NewFile
from records.runs import ERROR_BYTES, NewRun, RunBlob, RunEnd, StoredEvent
from records.usage import RunUsage

if TYPE_CHECKING:
    from api.runs.requests import RunRequest
    from records.runs import Run
    from records.usage import Quota

#: Facts of an ended run that are the worker's word, copied as they are.
_FACTS = (
    "exit_code", "signal", "timed_out", "oom_killed", "cancelled", "stdout", "stderr", "stdout_truncated",
    "stderr_truncated", "usage", "compile",
)  # fmt: skip
_NO_FACTS: dict[str, Any] = {
    "exit_code": None,
    "signal": None,
    "timed_out": False,
    "oom_killed": False,
    "cancelled": False,
    "stdout": "",
    "stderr": "",
    "stdout_truncated": False,
    "stderr_truncated": False,
    "usage": {"wall_ms": 0, "cpu_ms": 0, "max_rss_mb": 0, "queue_ms": 0, "egress_bytes": 0, "shared": False},
    "compile": None,
}
#: The same of a cell of a context; of all other runs these.
_NO_CELL: dict[str, Any] = {
    "context": None,
    "execution_count": None,
    "state": None,
    "exception": None,
    "results": [],
    "results_dropped": 0,
}
#: The placeholder in a document of a part that is in storage, where that is no text.
_EMPTY: dict[str, Any] = {"results": [], "output": None}
_ARTIFACT = ("id", "name", "path", "size", "sha256", "content_type")
HOUR_MS = 3_600_000
#: The code of a run that the service stopped under, waiting or running.
INTERRUPTED = "interrupted"


class ResultError(ValueError):
    """The worker's result is not what `protocol.result.Result.to_json` writes."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The facts of a run that stay the same from its acceptance to its end."""

    id: str
    owner: str
    language: str
    limits: dict[str, Any]
    metadata: dict[str, str]
    code_sha256: str
    created_at: str
    created_at_ms: int
    bytes_in: int
    #: For how long its artifacts are kept.
    keep_files_ms: int = 24 * HOUR_MS
    session_id: str | None = None
    external_id: str | None = None
    #: The function that it calls or builds, and which version of it.
    function: str | None = None
    version: int | None = None

    @classmethod
    def of(
        cls,
        request: RunRequest,
        *,
        owner: str,
        language: str,
        pids_default: int,
        bytes_in: int = 0,
        keep_files_ms: int = 24 * HOUR_MS,
        session_id: str | None = None,
    ) -> RunRecord:
        """Return the facts of an accepted request."""
        rules = LIMIT_RULES if session_id is None else RUN_RULES
        resolved = Limits.resolve(request.limits, pids_default=pids_default, rules=rules)
        created_at_ms = now_ms()
        use = request.function
        return cls(
            id=use.run_id if use is not None and use.run_id else new_id("run"),
            owner=owner,
            language=language,
            limits={name: getattr(resolved, name) for name in LIMIT_RULES},
            metadata=request.metadata,
            code_sha256=_code_sha256(request),
            created_at=rfc3339(created_at_ms),
            created_at_ms=created_at_ms,
            bytes_in=bytes_in,
            keep_files_ms=keep_files_ms,
            session_id=session_id,
            external_id=request.external_id,
            function=None if use is None else use.name,
            version=None if use is None else use.version,
        )

    @classmethod
    def recorded(cls, run: Run, bytes_in: int, keep_files_ms: int) -> RunRecord:
        """Return the facts of a run that was accepted before this process started."""
        document = orjson.loads(run.document)
        return cls(
            id=run.id,
            owner=run.owner,
            language=run.language,
            limits=document["limits"],
            metadata=document["metadata"],
            code_sha256=document["code_sha256"],
            created_at=document["created_at"],
            created_at_ms=run.created_at_ms,
            bytes_in=bytes_in,
            keep_files_ms=keep_files_ms,
            session_id=document.get("session_id"),
            external_id=document.get("external_id"),
            function=document.get("function"),
            version=document.get("version"),
        )

    def accepted(
        self,
        status: LiveStatus,
        body: bytes,
        quota: Quota | None = None,
        storage_bytes: int | None = None,
        blob: RunBlob | None = None,
    ) -> NewRun:
        """Return the run as it is recorded before it is dispatched."""
        started_at = self.created_at if status == "running" else None
        return NewRun(
            id=self.id,
            owner=self.owner,
            language=self.language,
            created_at_ms=self.created_at_ms,
            document=self.live(status, started_at),
            request=body if blob is None else b"",
            blob=blob,
            status=status,
            quota=quota,
            storage_bytes=storage_bytes,
            metadata=self.metadata,
            session_id=self.session_id,
            external_id=self.external_id,
            function=self.function,
        )

    def live(self, status: Status, started_at: str | None = None) -> bytes:
        """Return the document of a queued or running run."""
        return self._document(status, _NO_FACTS, {"started_at": started_at}, None)

    def ended(self, result: dict[str, Any]) -> RunEnd:
        """Return the end of a run from the worker's result. Raises ResultError."""
        try:
            status: Status = result["status"]
            if status not in ENDED_STATUSES:
                raise ResultError("the status is none of an ended run")
            error = _job_error(result["error"]) if status == "error" else None
            ended_at_ms = now_ms()
            forgotten_at_ms = ended_at_ms + self.keep_files_ms
            document = self._document(status, result, result, error, forgotten_at_ms)
            blobs = tuple(
                RunBlob(item["part"], "artifact", item["sha256"], item["size"])
                for item in result.get("outputs", ())
            )
            kept = document
            if blobs:
                facts = result | {blob.part: _EMPTY.get(blob.part, "") for blob in blobs}
                kept = marked(self._document(status, facts, result, error, forgotten_at_ms), blobs)
            return RunEnd(
                status=status,
                ended_at_ms=ended_at_ms,
                document=kept,
                blobs=blobs,
                answer=document if blobs else None,
                events=tuple(
                    StoredEvent(seq, orjson.dumps(entry))
                    for seq, entry in enumerate(result.get("timeline", ()), start=1)
                ),
                artifacts=tuple(_file(item, ended_at_ms, forgotten_at_ms) for item in result["artifacts"]),
                usage=self._usage(result),
                never_began=error is not None and error.code == INTERRUPTED and not result.get("started_at"),
                error_text=_error_text(status, result, error),
            )
        except (KeyError, TypeError, AttributeError, orjson.JSONEncodeError) as e:
            raise ResultError("the result lacks a field") from e

    def failed(self, error: ErrorObject, started_at: str | None = None) -> RunEnd:
        """Return the end of a run that failed through the service."""
        result = {"started_at": started_at, "finished_at": now()}
        document = self._document("error", _NO_FACTS, result, error)
        return RunEnd(
            "error",
            now_ms(),
            document,
            usage=RunUsage(bytes_in=self.bytes_in),
            error_text=_error_text("error", _NO_FACTS, error),
        )

    def _usage(self, result: dict[str, Any]) -> RunUsage:
        used = result["usage"]
        compiling_ms = result["compile"]["cpu_ms"] if result["compile"] is not None else 0
        sizes = sum(item["size"] for item in result["artifacts"])
        return RunUsage(
            cpu_ms=used["cpu_ms"] + compiling_ms,
            wall_ms=used["wall_ms"],
            memory_mb_ms=used["wall_ms"] * self.limits["memory_mb"],
            bytes_in=self.bytes_in,
            bytes_out=_size(result["stdout"]) + _size(result["stderr"]) + sizes,
            egress_bytes=used.get("egress_bytes", 0),
        )

    def _document(
        self,
        status: Status,
        facts: dict[str, Any],
        result: dict[str, Any],
        error: ErrorObject | None,
        forgotten_at_ms: int | None = None,
    ) -> bytes:
        document: dict[str, Any] = {
            "id": self.id,
            "object": "run",
            "status": status,
            "language": self.language,
        }
        document.update((name, facts[name]) for name in _FACTS)
        document["artifacts"] = [artifact_object(item, forgotten_at_ms) for item in result.get("artifacts", ())]
        document["skipped_artifacts"] = result.get("skipped_artifacts", [])
        document["skipped_artifacts_count"] = result.get("skipped_artifacts_count", 0)
        document["hints"] = result.get("hints", [])
        document["limits"] = result.get("limits") or self.limits
        document["metadata"] = self.metadata
        document["code_sha256"] = self.code_sha256
        document["isolation"] = result.get("isolation")
        document["session_id"] = self.session_id
        document["external_id"] = self.external_id
        document["layer"] = result.get("layer")
        document.update((name, facts.get(name, nothing)) for name, nothing in _NO_CELL.items())
        document["function"], document["version"] = self.function, self.version
        # As the results behind the artifacts, which are looked for from the beginning: both may hold anything.
        document["output"] = None if (output := facts.get("output")) is None else orjson.Fragment(output)
        document["created_at"] = self.created_at
        document["started_at"] = result.get("started_at")
        document["finished_at"] = result.get("finished_at")
        document["error"] = error.to_json() if error is not None else None
        return orjson.dumps(document)


def result_error(result: dict[str, Any]) -> ErrorObject:
    """Return the error of a result with status `error`, in the form of the envelope."""
    return _job_error(result.get("error"))


def artifact_object(item: dict[str, Any], forgotten_at_ms: int | None) -> dict[str, Any]:
    """Return an artifact as it is recorded; `api.files.links` adds its link."""
    return {**{name: item[name] for name in _ARTIFACT}, "url": None, "expires_at": forgotten_at_ms}


def _file(item: dict[str, Any], now_ms: int, forgotten_at_ms: int) -> NewFile:
    return NewFile(**{name: item[name] for name in _ARTIFACT}, created_at_ms=now_ms, expires_at_ms=forgotten_at_ms)


def _job_error(data: object) -> ErrorObject:
    if not isinstance(data, dict):
        return ErrorObject("The service failed to run this.", error_type(500), None, "internal_error")
    error = JobError(**data)
    return ErrorObject(error.message, error.type, error.param, error.code)


def _error_text(status: Status, result: dict[str, Any], error: ErrorObject | None) -> str:
    """Return the text that an unsuccessful run is searched by: the service's error, else the end of its stderr."""
    if status == "succeeded":
        return ""
    if error is not None:
        return f"{error.code}: {error.message}"
    compiled = result["compile"]
    return str(result["stderr"] or (compiled["stderr"] if compiled is not None else ""))[-ERROR_BYTES:]


def _code_sha256(request: RunRequest) -> str:
    if request.code is not None:
        return hashlib.sha256(request.code.encode()).hexdigest()
    named = request.entrypoint
    if request.function is not None:
        named = request.function.handler or named
        if request.function.executable:
            return request.function.inputs[0].sha256
    content = next(file.content for file in request.files if file.path == named)
    return hashlib.sha256(content).hexdigest()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
