"""Make every call about functions an operation that a driver completes; both clients use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from runyard import _calls
from runyard._events import Following, Place, submitted
from runyard._retry import RetryPolicy
from runyard._steps import Call, Operation
from runyard.function_models import Function
from runyard.models import Page, Run

if TYPE_CHECKING:
    from runyard._calls import InlineFile, Limits
    from runyard._steps import Notice

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
#: Above what a build may take: its wait for a place, compiling and running.
_BUILD_SILENCE_S = 240.0


class FunctionOptions(TypedDict, total=False):
    """Fields that a function may be deployed with. `entrypoint` (the path of one of `files`) replaces code."""

    entrypoint: str
    files: Sequence[InlineFile]
    #: Packages that its build and its calls have, such as `requests==2.32.3`.
    packages: Sequence[str]
    limits: Limits
    env: Mapping[str, str]
    description: str
    #: JSON Schema that every input must match.
    input_schema: Mapping[str, Any]
    #: True: do not wait for the build.
    background: bool


class CallOptions(TypedDict, total=False):
    """Options of a call."""

    #: Which version; by default the newest that is ready.
    version: int
    limits: Limits
    #: Made by itself when it is not given: the same call is never made twice.
    idempotency_key: str


class FunctionOperations:
    """All of them, under one policy of retries."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    def deploy(self, name: str, language: str, code: str | None, options: FunctionOptions) -> Operation[Function]:
        body: dict[str, Any] = {"language": language}
        if code is not None:
            body["code"] = code
        body |= {field: value for field, value in options.items() if value is not None}
        if "files" in body:
            body["files"] = [_calls.inline_file(item) for item in body["files"]]
        # Deployed twice it would be two versions.
        call = Call(
            "PUT",
            _calls.item("functions", name),
            body=json.dumps(body).encode(),
            headers=_JSON,
            safe=False,
            silence_s=_BUILD_SILENCE_S,
        )
        return self._get(call, Function.of)

    def get(self, name: str, version: int | None) -> Operation[Function]:
        return self._get(_calls.fetch(_calls.item("functions", name), version=version), Function.of)

    def page(self, limit: int | None, after: str | None, order: str | None) -> Operation[Page[Function]]:
        call = _calls.fetch("/v1/functions", limit=limit, after=after, order=order)
        return self._get(call, _calls.page(Function.of))

    def delete(self, name: str) -> Operation[dict[str, Any]]:
        return self._get(_calls.remove(_calls.item("functions", name)), _calls.whole)

    def call(self, name: str, value: object, options: CallOptions) -> Operation[Run]:
        return _calls.waited(_call(name, value, options, background=False), self.policy)

    def start(self, name: str, value: object, options: CallOptions) -> Operation[Run]:
        run_id = yield from submitted(_call(name, value, options, background=True), self.policy)
        return (yield from self._get(_calls.fetch(_calls.item("runs", run_id)), Run.of))

    def stream(self, name: str, value: object, options: CallOptions, notice: Notice | None) -> Following:
        start = _call(name, value, options, background=True)
        return Following(Place(None), self.policy, start=start, notice=notice)

    def _get(self, call: Call, read: Callable[[Any], T]) -> Operation[T]:
        return _calls.answered(call, self.policy, read)


def _call(name: str, value: object, options: CallOptions, *, background: bool) -> Call:
    """Build `POST /v1/functions/{name}/runs`."""
    version = options.get("version")
    body: dict[str, Any] = {"input": value}
    if options.get("limits") is not None:
        body["limits"] = options["limits"]
    if background:
        body["background"] = True
    key = options.get("idempotency_key") or _calls.new_idempotency_key()
    return Call(
        "POST",
        _calls.item("functions", name if version is None else f"{name}@{version}", "runs"),
        body=json.dumps(body).encode(),
        headers=_JSON | {"Idempotency-Key": key},
        silence_s=_BUILD_SILENCE_S,
    )
