"""`/api/v2` and `/api/v2/piston`: Piston's runtimes, packages and execution."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from api.context import context, limit_anonymous
from api.dialects.answers import exact_document, exact_json
from api.dialects.caller import require_dialect_caller
from api.dialects.execution import answer, discard_body, execute, require_room
from api.dialects.piston import examples, schemas
from api.dialects.piston.answers import executed, failed, render
from api.dialects.piston.connect import connect
from api.dialects.piston.runtimes import LanguageRuntime, LanguageRuntimes
from api.dialects.piston.translate import parse_execute
from api.dialects.shared_paths import Claim
from api.errors import JSON, ApiError, answer_error
from api.http.body import parse_object, read_body
from api.openapi.decorator import ATTRIBUTE, Answer, Json, Operation, RequestBody, declared, operation
from api.openapi.document import HIDDEN
from api.system.languages import MISS_AGE_S, READY_AGE_S, SHOWN_AGE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.keys.authentication import Caller
    from api.system.languages import OfferedLanguages

NAME = "piston"
BASES = ("/api/v2", "/api/v2/piston")
OWN: tuple[str, ...] = ("/api/v2/",)
KEYLESS: tuple[str, ...] = ("/api/v2/", "/execute")
#: The name of Piston's own server, which clients may look at.
GREETING = {"message": "Piston v3.1.1"}

blueprint = Blueprint("piston", __name__)
blueprint.register_error_handler(Exception, lambda e: answer_error(e, render))


_ERRORS = schemas.errors(400, 401, 403, 408, 413, 415, 429, 500, 503)


class _Known:
    """The runtimes of the languages that were seen last. Safe for many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: OfferedLanguages | None = None
        self._runtimes = LanguageRuntimes(())

    def of(self, languages: OfferedLanguages) -> LanguageRuntimes:
        """Return the runtimes of those languages."""
        with self._lock:
            if self._of is not languages:
                self._of, self._runtimes = languages, LanguageRuntimes(languages.languages)
            return self._runtimes


_known = _Known()


SAID_EXECUTE = Operation(
    "Execute a program as Piston does, or as another service",
    tag=HIDDEN,
    answers={},
)


@operation(
    "Execute a program as Piston does",
    tag=NAME,
    auth=("none", "key", "api_key"),
    body=RequestBody({JSON: schemas.PistonRequest}, examples.REQUESTS),
    answers={
        200: Json("The ended run, also if its program failed.", schemas.PistonResult, examples.RESULTS),
        **_ERRORS,
    },
    has_own_errors=True,
)
def piston_execute() -> Response:
    """Run a program and answer when it has ended; `/api/v2/piston/execute` and `/execute` are the same."""
    try:
        _check_type()
        caller = _caller()
    except ApiError:
        discard_body()
        raise
    return _run(caller, read_body(request))


@operation(
    "List Piston's runtimes",
    tag=NAME,
    auth=("none",),
    answers={
        200: Json("The languages that are ready.", schemas.PistonRuntimes, examples.RUNTIMES),
        **schemas.errors(429, 500, 503),
    },
    has_own_errors=True,
)
def piston_runtimes() -> Response:
    """List the languages that are ready, by Piston's names; `/api/v2/piston/runtimes` is the same."""
    limit_anonymous()
    return _json([runtime.to_json() for runtime in _runtimes(SHOWN_AGE_S).installed])


@operation(
    "List Piston's packages",
    tag=NAME,
    auth=("none",),
    answers={
        200: Json("All languages.", schemas.PistonPackages, examples.PACKAGES),
        **schemas.errors(429, 500, 503),
    },
    has_own_errors=True,
)
def piston_packages() -> Response:
    """List the languages as packages, which only the operator installs; `/api/v2/piston/packages` is the same."""
    limit_anonymous()
    return _json(_runtimes(SHOWN_AGE_S).packages)


@operation(
    "Greet as Piston does",
    tag=NAME,
    auth=("none",),
    answers={
        200: Json("Always.", schemas.PistonMessage, {"always": GREETING}),
        **schemas.errors(500),
    },
    has_own_errors=True,
)
def piston_greeting() -> Response:
    """Return the version of Piston whose API this is."""
    return _json(GREETING)


@operation(
    "Run a program as Piston's WebSocket does",
    tag=NAME,
    auth=("none", "key", "api_key"),
    description=(
        "Upgrades to a WebSocket whose messages are JSON texts. The client sends `init` with the fields of "
        "`execute` within a second, then `data` for `stdin`, and `signal`. It gets `runtime`, `stage`, `data`, "
        "`exit` or `error`. Close codes: 4000 to 4005 as of Piston, 4999 when the job has completed."
    ),
    answers={101: Answer("The connection is a WebSocket."), **_ERRORS, **schemas.errors(426)},
    has_own_errors=True,
)
def piston_connect() -> Response:
    """Serve Piston's WebSocket; `/api/v2/piston/connect` is the same."""
    return connect(_find)


def refuse(error: ApiError) -> Response:
    """Return the answer to a request that no route takes."""
    if error.status == 405 and request.path.rstrip("/").endswith("/packages"):
        message = "Packages are read-only: the operator of this service installs languages"
        error = ApiError(405, message, code=error.error.code, headers=error.headers)
    return render(error)


def _mount() -> None:
    """Add each route under each base, with a trailing slash too; the specification has those of the first base."""
    for base in BASES:
        for path, method, view in (
            ("", "GET", piston_greeting),
            ("/runtimes", "GET", piston_runtimes),
            ("/execute", "POST", piston_execute),
            ("/packages", "GET", piston_packages),
        ):
            shown = view if base == BASES[0] else _unlisted(view)
            endpoint = f"{view.__name__}_{BASES.index(base)}"
            blueprint.add_url_rule(
                base + path, endpoint=endpoint, view_func=shown, methods=[method], strict_slashes=False
            )
        view = piston_connect if base == BASES[0] else _unlisted(piston_connect)
        blueprint.add_url_rule(
            f"{base}/connect", endpoint=f"piston_connect_{BASES.index(base)}", view_func=view, websocket=True
        )


def _unlisted(view: Callable[[], Response]) -> Callable[[], Response]:
    """Return a view that does the same and is not in the specification."""

    def also() -> Response:
        return view()

    said = declared(view)
    assert said is not None
    setattr(also, ATTRIBUTE, replace(said, tag=HIDDEN))
    return also


def _shared_execute(body: bytes) -> Response:
    _check_type()
    return _run(_caller(), body)


#: A request to `/execute` that is Piston's, where a client appends to another base than BASES.
EXECUTE = Claim(NAME, _shared_execute, render, keys=frozenset({"files", "version"}))


def _caller() -> Caller:
    caller = require_dialect_caller()
    require_room()
    return caller


def _check_type() -> None:
    """Check the type that the request gives for its body. Raises ApiError 415."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise _unsupported("the body must not be compressed")
    if context().settings.piston_strict and not request.headers.get("Content-Type", "").startswith(JSON):
        raise _unsupported("requests must be of type application/json")


def _unsupported(message: str) -> ApiError:
    return ApiError(415, message, code="unsupported_media_type")


def _run(caller: Caller, body: bytes) -> Response:
    # Piston's server takes a request without a body as an empty object.
    asked = parse_execute(parse_object(body) if body else {}, _find, caller.plan)
    try:
        run = execute(asked.fields, caller, compile_limits=asked.compile_limits, ends_when_cut=True)
    except ApiError as e:
        if e.run_id is None:
            raise
        return exact_document(failed(asked, e))
    try:
        return answer(run, executed(asked, run.document, run.output_in_order))
    except BaseException:
        run.release()
        raise


def _find(language: str, selector: str) -> LanguageRuntime | None:
    """Return the runtime that a request names, asking the worker again before it is reported as unknown."""
    found = _runtimes(READY_AGE_S).find(language, selector)
    if found is None or not found.ready:
        found = _runtimes(MISS_AGE_S).find(language, selector)
    return found


def _runtimes(max_age_s: float) -> LanguageRuntimes:
    return _known.of(context().languages.offered(max_age_s))


def _json(data: object) -> Response:
    return exact_json(data)


_mount()
