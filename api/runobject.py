"""The run object of API.md: its fields and their order, for a run that waits, runs or has ended."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from api.errors import ErrorObject, error_type
from api.ids import now
from config.ids import new_id
from records.store import ArtifactRecord, RunRecord
from sandbox.job import JobError, Limits, Status

if TYPE_CHECKING:
    from api.schemas import RunRequest

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
    "usage": {"wall_ms": 0, "cpu_ms": 0, "max_rss_mb": 0, "queue_ms": 0},
    "compile": None,
}
_ENDED = frozenset({"error", "cancelled", "timeout", "oom", "killed", "failed", "succeeded"})


class ResultError(ValueError):
    """The worker's result is not what `sandbox.job.Result.to_json` writes."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run from its start to its end, whatever becomes of it."""

    id: str
    owner: str
    language: str
    limits: Limits
    metadata: dict[str, str]
    code_sha256: str
    created_at: str

    @classmethod
    def of(cls, request: RunRequest, *, owner: str, language: str, pids_default: int) -> RunFacts:
        """The facts of a request that was accepted."""
        return cls(
            id=new_id("run"),
            owner=owner,
            language=language,
            limits=Limits.resolve(request.limits, pids_default=pids_default),
            metadata=request.metadata,
            code_sha256=_code_sha256(request),
            created_at=now(),
        )

    def live(self, status: Status, started_at: str | None = None) -> RunRecord:
        """The record of a run that waits or runs."""
        document = self._document(status, _NO_FACTS, {"started_at": started_at}, (), None)
        return self._record(status, document, ())

    def ended(self, result: dict[str, Any]) -> RunRecord:
        """The record of a run that ended as the worker says. Raises ResultError."""
        try:
            status: Status = result["status"]
            if status not in _ENDED:
                raise ResultError("the status is none of an ended run")
            artifacts = tuple(ArtifactRecord(**item) for item in result["artifacts"])
            timeline = orjson.dumps(result["timeline"]) if result.get("timeline") else None
            error = _job_error(result["error"]) if status == "error" else None
            document = self._document(status, result, result, artifacts, error)
            return self._record(status, document, artifacts, timeline)
        except (KeyError, TypeError, orjson.JSONEncodeError) as e:
            raise ResultError("the result lacks a field") from e

    def failed(self, error: ErrorObject, started_at: str | None = None) -> RunRecord:
        """The record of a run that the service failed."""
        result = {"started_at": started_at, "finished_at": now()}
        return self._record("error", self._document("error", _NO_FACTS, result, (), error), ())

    def _document(
        self,
        status: Status,
        facts: dict[str, Any],
        result: dict[str, Any],
        artifacts: tuple[ArtifactRecord, ...],
        error: ErrorObject | None,
    ) -> bytes:
        document: dict[str, Any] = {
            "id": self.id,
            "object": "run",
            "status": status,
            "language": self.language,
        }
        document.update((name, facts[name]) for name in _FACTS)
        document["artifacts"] = [artifact_object(asdict(item)) for item in artifacts]
        document["skipped_artifacts"] = result.get("skipped_artifacts", [])
        document["skipped_artifacts_count"] = result.get("skipped_artifacts_count", 0)
        document["limits"] = result.get("limits") or self.limits
        document["metadata"] = self.metadata
        document["code_sha256"] = self.code_sha256
        document["isolation"] = result.get("isolation")
        document["created_at"] = self.created_at
        document["started_at"] = result.get("started_at")
        document["finished_at"] = result.get("finished_at")
        document["error"] = error.to_json() if error is not None else None
        return orjson.dumps(document)

    def _record(
        self,
        status: str,
        document: bytes,
        artifacts: tuple[ArtifactRecord, ...],
        timeline: bytes | None = None,
    ) -> RunRecord:
        return RunRecord(
            id=self.id,
            owner=self.owner,
            status=status,
            language=self.language,
            created_at=self.created_at,
            document=document,
            ended=status in _ENDED,
            artifacts=artifacts,
            timeline=timeline,
        )


def result_error(result: dict[str, Any]) -> ErrorObject:
    """The error of a result whose status is `error`, as the envelope says it."""
    return _job_error(result.get("error"))


def _job_error(data: object) -> ErrorObject:
    if not isinstance(data, dict):
        return ErrorObject("The service failed to run this.", error_type(500), None, "internal_error")
    error = JobError(**data)
    return ErrorObject(error.message, error.type, error.param, error.code)


def artifact_object(item: dict[str, Any]) -> dict[str, Any]:
    """An artifact as clients see it, from its facts."""
    # Links are signed at every read, once files can be fetched.
    return {**item, "url": None, "expires_at": None}


def _code_sha256(request: RunRequest) -> str:
    if request.code is not None:
        return hashlib.sha256(request.code.encode()).hexdigest()
    content = next(file.content for file in request.files if file.path == request.entrypoint)
    return hashlib.sha256(content).hexdigest()
