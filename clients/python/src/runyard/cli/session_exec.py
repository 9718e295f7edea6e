"""`runyard sessions exec`: a command in a session, or code in its interpreter."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runyard.cli import inputs
from runyard.cli.execute import Stopped, lost, stop_signals, tell, watch
from runyard.cli.exits import KILLED, TIMED_OUT, exit_code
from runyard.cli.results import Results, pass_on
from runyard.cli.session import Session
from runyard.cli.speech import explain, say
from runyard.cli.units import MILLISECONDS, PAIR
from runyard.errors import RunyardError
from runyard.session_models import Process

if TYPE_CHECKING:
    from runyard._calls import RunOptions
    from runyard._session_calls import ProcessOptions
    from runyard.sessions import Session as LiveSession


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("session_id")
@click.argument("command", nargs=-1, required=True)
@click.option("-w", "--cwd", help="Working directory; default /work.")
@click.option("-e", "--env", "env", multiple=True, type=PAIR, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("-t", "--timeout", type=MILLISECONDS, help="Time limit: 10 (seconds), 1.5s, 500ms, 1m.")
@click.option("--stdin", "given_input", metavar="FILE", help="File for stdin; - passes on this command's stdin.")
@click.option("-d", "--detach", is_flag=True, help="Print the process's id without waiting for it.")
@click.option(
    "--results",
    is_flag=True,
    help="COMMAND is code (or -: on stdin) for the interpreter: print values, tables and displayed texts.",
)
@click.option(
    "-s",
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save figures to this folder (--results).",
)
@click.pass_obj
def execute(  # one argument per option
    session: Session,
    session_id: str,
    command: tuple[str, ...],
    cwd: str | None,
    env: tuple[tuple[str, str | None], ...],
    timeout: int | None,
    given_input: str | None,
    detach: bool,
    results: bool,
    save: Path | None,
) -> int:
    """Run COMMAND in a session, show its output as it comes, and exit with its exit code.

    One word is a line for bash; several are a program and its arguments. Options stand before SESSION_ID. Ctrl-C
    kills the command, and the session lives on.

    With --results, COMMAND is code: a run in the session's default context, which keeps its variables. Hints are
    shown as by `runyard exec`, and Ctrl-C cancels the run.

    \b
      runyard sessions exec SESSION 'ls -la | head'
      runyard sessions exec SESSION python3 main.py --fast
      runyard sessions exec --results SESSION 'x = 6; x * 7'
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    if results:
        if len(command) > 1 or cwd is not None or detach:
            raise click.UsageError("--results takes the code as one word, and neither --cwd nor --detach")
        return _cell(session, session_id, command[0], env, timeout, given_input, save)
    if save is not None:
        raise click.UsageError("--save needs --results")
    options: ProcessOptions = {"env": inputs.environment(env)}
    if cwd is not None:
        options["cwd"] = cwd
    if timeout is not None:
        options["timeout_ms"] = timeout
    if given_input is not None:
        options["stdin"] = inputs.input_text(given_input) or ""
    live = session.client.sessions.get(session_id)
    process = live.processes.start(command[0] if len(command) == 1 else command, **options)
    if detach:
        click.echo(process.id)
        return 0
    try:
        with stop_signals():
            return _exit_code(_watched(live, process))
    except Stopped as stopped:
        _kill(live, process)
        return 128 + stopped.number


def _cell(
    session: Session,
    session_id: str,
    code: str,
    env: tuple[tuple[str, str | None], ...],
    timeout: int | None,
    given_input: str | None,
    save: Path | None,
) -> int:
    """Run code in the session's default context, and show its results. Returns its exit code."""
    options: RunOptions = {"env": inputs.environment(env), "results": True}
    if code == "-":
        if given_input == "-":
            raise click.UsageError("stdin can be either the code (-) or its input (--stdin -), not both")
        code = inputs.input_text("-") or ""
    if timeout is not None:
        options["limits"] = {"timeout_ms": timeout}
    if given_input is not None:
        options["stdin"] = inputs.input_text(given_input) or ""
    live = session.client.sessions.get(session_id)
    try:
        with stop_signals():
            run = watch(live.runs.stream(code, notice=lost, **options), Results(save))
    except Stopped as stopped:
        return 128 + stopped.number
    tell(run, saved=False)
    if run.state == "lost":
        say("the interpreter was restarted; its variables are gone")
    return exit_code(run)


def _watched(live: LiveSession, process: Process) -> Process:
    """Pass on what it prints, to its end."""
    ended = process
    with live.processes.stream(process) as stream:
        for event in stream:
            pass_on(event)
            if event.event == "info" and isinstance(event.data, dict):
                say(f"{event.data.get('dropped_bytes')} bytes of the output were dropped")
            if isinstance(event.data, Process):
                ended = event.data
    return ended


def _exit_code(process: Process) -> int:
    if process.timed_out:
        say("the command exceeded its time and was killed")
        return TIMED_OUT
    if process.exit_code is not None:
        return process.exit_code
    number = getattr(signal, process.signal or "", None)
    return 128 + number if isinstance(number, signal.Signals) else KILLED


def _kill(live: LiveSession, process: Process) -> None:
    try:
        live.processes.kill(process)
    except RunyardError as e:
        explain(e)
