"""Handle the requests about what is watched in a session; see `worker.sessions` for their form.

`watch` (`path`, as text of one character for each byte, and `recursive`): `{"watching":{}}`, then a line for each
    event, `{"alive":true}` now and then, and `{"watched":{}}` when the directory is gone.
`watcher`, the same fields: `{"watcher":{"id":W}}`: it lives until it is removed, or its session ends.
`watcher_events`, `watcher`, `after`: `{"events":{"events":[…],"is_over":…}}`, without waiting.
`unwatch`, `watcher`: `{"unwatched":{}}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.result import Refusal
from sandbox.sessions.watchers import MOST_WATCHERS, TooManyWatchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.sessions.session import LiveSession
    from sandbox.sessions.watchers import SessionWatcher
    from worker.handlers import Connection

#: A stream without events says so often that it is alive.
ALIVE_S = 5.0
TOO_MANY = Refusal(409, f"this session has {MOST_WATCHERS} watchers, the maximum", "session_busy")
NO_WATCHER = Refusal(404, "there is no such watcher in this session", "watcher_not_found")


def handlers() -> dict[str, Callable[[LiveSession, dict[str, Any], Connection], None]]:
    """Return the function of each request."""
    return {"watch": _watch, "watcher": _start, "watcher_events": _events, "unwatch": _remove}


def _watch(session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
    watcher = _started(session, request, connection)
    if watcher is None:
        return
    try:
        connection.send({"watching": {}})
        after, is_over = 0, False
        while not is_over:
            events, is_over = watcher.events(after, ALIVE_S)
            if events:
                after = events[-1].seq
                connection.send(*[event.to_json() for event in events])
            elif not is_over:
                if connection.is_gone():
                    raise ConnectionError("nobody follows any more")
                connection.send({"alive": True})
        connection.send({"watched": {}})
    finally:
        session.watchers.remove(watcher)


def _start(session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
    watcher = _started(session, request, connection)
    if watcher is not None:
        connection.send({"watcher": {"id": watcher.id}})


def _events(session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
    watcher = session.watchers.find(str(request.get("watcher")))
    after = request.get("after")
    if watcher is None or not isinstance(after, int):
        connection.refuse(NO_WATCHER)
        return
    with session.in_use():
        events, is_over = watcher.events(after)
    connection.send({"events": {"events": [event.to_json() for event in events], "is_over": is_over}})


def _remove(session: LiveSession, request: dict[str, Any], connection: Connection) -> None:
    watcher = session.watchers.find(str(request.get("watcher")))
    if watcher is None:
        connection.refuse(NO_WATCHER)
        return
    with session.in_use():
        session.watchers.remove(watcher)
    connection.send({"unwatched": {}})


def _started(session: LiveSession, request: dict[str, Any], connection: Connection) -> SessionWatcher | None:
    path = str(request.get("path")).encode("latin-1")
    try:
        with session.in_use():
            return session.watchers.start(path, recursive=bool(request.get("recursive")))
    except TooManyWatchers:
        connection.refuse(TOO_MANY)
        return None
