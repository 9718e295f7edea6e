"""`runyard sessions shell`: a terminal in a session."""

from __future__ import annotations

import json
import os
import signal
from typing import Any
from urllib.parse import quote

import click

from runyard._retry import RetryPolicy, exchange
from runyard._steps import Call, parsed
from runyard.cli.exits import SERVICE_FAILED
from runyard.cli.session import Session
from runyard.cli.speech import say
from runyard.errors import ProtocolError

_DEFAULT_TERM = "xterm-256color"


@click.command()
@click.argument("session_id", metavar="ID")
@click.argument("argv", metavar="[-- COMMAND [ARGUMENT]...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--attach", metavar="PROCESS", help="Return to a process: its id, its pid, or tag:NAME.")
@click.option("--cwd", metavar="PATH", help="Working directory [/work].")
@click.option("--tag", metavar="NAME", help="Name of the process, for --attach tag:NAME.")
@click.pass_context
def shell(
    context: click.Context,
    session_id: str,
    argv: tuple[str, ...],
    attach: str | None,
    cwd: str | None,
    tag: str | None,
) -> int:
    """Open a terminal in a session, with bash or another command.

    Ctrl-] leaves the terminal; the process goes on, and --attach returns to it. The exit code is the process's.
    """
    # Only here: other commands need neither, nor a system with terminals.
    from runyard._websocket import WebSocket
    from runyard.cli.terminal import Detached, converse, size

    session: Session = context.obj
    if attach is not None and (argv or cwd or tag):
        raise click.UsageError("--attach returns to a process that has its command, --cwd and --tag already.")
    base = f"/v1/sessions/{quote(session_id, safe='')}/processes"
    process = attach or _start(session, base, argv or ("bash",), size(), {"cwd": cwd, "tag": tag})
    path = f"{base}/{quote(process, safe=':')}"
    websocket = WebSocket(session.config, f"{path}/attach")
    try:
        if attach is not None:
            cols, rows = size()
            websocket.send(json.dumps({"type": "resize", "cols": cols, "rows": rows}))
        ended = converse(websocket)
    except Detached:
        say(f"detached; return with: runyard sessions shell {session_id} --attach {process}")
        return 0
    finally:
        websocket.close()
    if ended is None:
        say(f"disconnected: {(websocket.closed or (0, ''))[1] or 'the service closed the connection'}")
        return SERVICE_FAILED
    return _exit_code(ended)


def _start(
    session: Session, base: str, argv: tuple[str, ...], size: tuple[int, int], fields: dict[str, str | None]
) -> str:
    """Start a process with a terminal of that size; its id."""
    cols, rows = size
    body: dict[str, Any] = {
        "argv": list(argv),
        "pty": {"cols": cols, "rows": rows},
        "env": {"TERM": os.environ.get("TERM") or _DEFAULT_TERM},
    }
    body |= {name: value for name, value in fields.items() if value is not None}
    headers = {"Content-Type": "application/json"}
    call = Call("POST", base, body=json.dumps(body).encode(), headers=headers, safe=False)
    answer = parsed(session.client._do(exchange(call, RetryPolicy())).body)
    found = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(found, str):
        raise ProtocolError("the response is not a process")
    return found


def _exit_code(ended: dict[str, object]) -> int:
    code = ended.get("exit_code")
    if isinstance(code, int):
        return code
    number = getattr(signal, str(ended.get("signal")), None)
    return 128 + number if isinstance(number, signal.Signals) else SERVICE_FAILED
