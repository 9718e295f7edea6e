"""The operations of the clients. A driver completes each one; both clients have the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from runyard import _calls
from runyard._events import Following, Place, submitted
from runyard._transfer import downloaded
from runyard.models import Artifact, File, Key, Language, Page, Run

if TYPE_CHECKING:
    from typing import BinaryIO

    from runyard._calls import RunOptions
    from runyard._retry import RetryPolicy
    from runyard._steps import Call, Notice, Operation, Upload
    from runyard._transfer import Progress

T = TypeVar("T")
Json = dict[str, Any]


class Operations:
    """All of them, under one policy of retries."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    # -- runs --------------------------------------------------------------------------------------

    def create_run(self, language: str, code: str | None, options: RunOptions) -> Operation[Run]:
        return _calls.waited(_calls.run(language, code, options, background=False), self.policy)

    def start_run(self, language: str, code: str | None, options: RunOptions) -> Operation[Run]:
        run_id = yield from submitted(_calls.run(language, code, options, background=True), self.policy)
        return (yield from self.run(run_id))

    def stream_run(self, language: str, code: str | None, options: RunOptions, notice: Notice | None) -> Following:
        start = _calls.run(language, code, options, background=True, live=True)
        return Following(Place(None), self.policy, start=start, notice=notice)

    def follow_run(self, run_id: str, after: int, notice: Notice | None) -> Following:
        _calls.item("runs", run_id)
        return Following(Place(run_id, after), self.policy, notice=notice)

    def run(self, run_id: str, *, include_request: bool = False) -> Operation[Run]:
        include = "request" if include_request else None
        return self._get(_calls.fetch(_calls.item("runs", run_id), include=include), Run.of)

    def runs(
        self,
        limit: int | None,
        after: str | None,
        order: str | None,
        status: str | None,
        language: str | None,
        function: str | None = None,
    ) -> Operation[Page[Run]]:
        filters = {"status": status, "language": language, "function": function}
        call = _calls.fetch("/v1/runs", limit=limit, after=after, order=order, **filters)
        return self._get(call, _calls.runs_page)

    def cancel_run(self, run_id: str) -> Operation[Run]:
        return self._get(_calls.act(_calls.item("runs", run_id, "cancel"), safe=True), Run.of)

    def delete_run(self, run_id: str) -> Operation[Json]:
        return self._get(_calls.remove(_calls.item("runs", run_id)), _calls.whole)

    # -- files -------------------------------------------------------------------------------------

    def upload(self, given: Upload) -> Operation[File]:
        return self._get(_calls.upload(given), File.of)

    def file(self, file_id: str) -> Operation[File]:
        return self._get(_calls.fetch(_calls.item("files", file_id)), File.of)

    def files(self, limit: int | None, after: str | None, order: str | None) -> Operation[Page[File]]:
        return self._get(_calls.fetch("/v1/files", limit=limit, after=after, order=order), _calls.files_page)

    def download(self, file: Artifact | File | str, into: BinaryIO, progress: Progress | None) -> Operation[int]:
        return downloaded(file, into, self.policy, progress)

    def delete_file(self, file_id: str) -> Operation[Json]:
        return self._get(_calls.remove(_calls.item("files", file_id)), _calls.whole)

    # -- keys, usage, and the rest -----------------------------------------------------------------

    def create_key(self) -> Operation[Key]:
        return self._get(_calls.act("/v1/keys", safe=False), Key.of)

    def my_key(self) -> Operation[Key]:
        return self._get(_calls.fetch("/v1/keys/me"), Key.of)

    def rotate_key(self) -> Operation[Key]:
        return self._get(_calls.act("/v1/keys/me/rotate", safe=False), Key.of)

    def delete_key(self) -> Operation[Json]:
        return self._get(_calls.remove("/v1/keys/me"), _calls.whole)

    def usage(self, begin: str | None, end: str | None) -> Operation[Json]:
        return self._get(_calls.fetch("/v1/usage", **{"from": begin, "to": end}), _calls.whole)

    def languages(self) -> Operation[list[Language]]:
        return self._get(_calls.fetch("/v1/languages"), lambda data: list(_calls.page(Language.of)(data).data))

    def layer(self, layer_id: str) -> Operation[Json]:
        return self._get(_calls.fetch(_calls.item("layers", layer_id)), _calls.whole)

    def health(self) -> Operation[Json]:
        return self._get(_calls.fetch("/v1/health"), _calls.whole)

    def _get(self, call: Call, read: Callable[[Any], T]) -> Operation[T]:
        return _calls.answered(call, self.policy, read)
