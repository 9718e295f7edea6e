"""The kernel's event loop, as cells without `await` see it.

They may create tasks on it, which go on between cells, and they may as well run a loop of their own by
`asyncio.run`. So the kernel's loop counts as running while such a cell is executed, but it stands still, and steps
aside for another.
"""

import asyncio
from asyncio import base_events, events, runners
from contextlib import contextmanager
from functools import wraps


@contextmanager
def running(loop):
    """Have the loop, which stands still, count as the running one of this thread."""
    before = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(before)
        if not loop.is_closed():
            asyncio.set_event_loop(loop)


@contextmanager
def not_running():
    """Have no loop count as running, so that one can be run."""
    before = events._get_running_loop()
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(before)


def allow_loops_inside():
    """Let loops be run while one that stands still counts as running."""
    asyncio.run = runners.run = _aside(runners.run)
    runners.Runner.run = _aside(runners.Runner.run)
    base_events.BaseEventLoop.run_until_complete = _aside(base_events.BaseEventLoop.run_until_complete)
    base_events.BaseEventLoop.run_forever = _aside(base_events.BaseEventLoop.run_forever)


def _aside(call):
    @wraps(call)
    def wrapped(*args, **kwargs):
        loop = events._get_running_loop()
        if loop is None or loop.is_running():
            return call(*args, **kwargs)
        with not_running():
            return call(*args, **kwargs)

    return wrapped
