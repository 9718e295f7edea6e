"""`runyard exec`: run a program as if it were here."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from runyard.cli import inputs, unread
from runyard.cli.exits import SERVICE_FAILED, exit_code, sentence
from runyard.cli.results import Results
from runyard.cli.session import Session
from runyard.cli.speech import Meter, as_json, explain, say
from runyard.cli.units import MEBIBYTES, MILLISECONDS, PAIR
from runyard.errors import RunyardError
from runyard.saving import saving

if TYPE_CHECKING:
    from runyard._calls import InlineFile, RunOptions
    from runyard._sync import EventStream
    from runyard.client import Client
    from runyard.models import Run


class Stopped(BaseException):
    """A signal that ends this process: its run must end first."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.command("exec", short_help="Run a program and pass on its output and exit code.")
@click.argument("source", required=False)
@click.argument("arguments", nargs=-1)
@click.option(
    "-r", "--runtime", "-l", "--language", metavar="LANGUAGE",
    shell_complete=lambda _c, _p, begun: [name for name in inputs.LANGUAGES if name.startswith(begun)],
    help="Language. Default: from the file extension.",
)  # fmt: skip
@click.option("-c", "--code", help="Source code to run, instead of SOURCE.")
@click.option("--entry", metavar="FILE", help="File to start, if SOURCE is a folder.")
@click.option(
    "--stdin", "given_input", metavar="FILE", help="File for the program's stdin; - passes on this command's stdin."
)
@click.option(
    "-f", "--file", "attached", multiple=True, metavar="FILE[=PATH]", help="Upload a file to inputs/ (repeatable)."
)
@click.option("-t", "--timeout", type=MILLISECONDS, help="Time limit: 10 (seconds), 1.5s, 500ms, 1m.")
@click.option("-m", "--memory", type=MEBIBYTES, help="Memory limit: 256 (MiB), 512m, 1g.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="CPU limit in cores, such as 0.5.")
@click.option(
    "--limit", "limits", multiple=True, type=PAIR, metavar="NAME=NUMBER", help="Any API limit (repeatable)."
)
@click.option(
    "-e",
    "--env",
    "env",
    multiple=True,
    type=PAIR,
    metavar="NAME[=VALUE]",
    help="Environment variable (repeatable).",
)
@click.option("--isolation", type=click.Choice(["default", "container", "gvisor"]), help="Isolation level.")
@click.option(
    "-p", "--package", "packages", multiple=True, metavar="NAME", help="Package to install first (repeatable)."
)
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Save artifacts to this folder."
)
@click.option(
    "--results", is_flag=True, help="Run the code as a cell: print its last value, tables and displayed texts."
)
@click.option(
    "-s",
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save figures to this folder (--results).",
)
@click.option("--json", "json_", is_flag=True, help="Print only the ended run, as JSON.")
@click.option("-d", "--detach", is_flag=True, help="Print the run's id without waiting for it.")
@click.option("-q", "--quiet", is_flag=True, help="Print no messages about the run.")
@click.pass_obj
def execute(  # one argument per option
    session: Session,
    source: str | None,
    arguments: tuple[str, ...],
    runtime: str | None,
    code: str | None,
    entry: str | None,
    given_input: str | None,
    attached: tuple[str, ...],
    timeout: int | None,
    memory: int | None,
    cpus: float | None,
    limits: tuple[tuple[str, str | None], ...],
    env: tuple[tuple[str, str | None], ...],
    isolation: str | None,
    packages: tuple[str, ...],
    out: Path | None,
    results: bool,
    save: Path | None,
    json_: bool,
    detach: bool,
    quiet: bool,
) -> int:
    """Run SOURCE and show its output as it is produced.

    SOURCE is code, a file, a folder (with --entry), or - for a program on stdin. Further arguments are passed to
    the program; put -- before arguments that begin with a dash. The program's stdin is empty unless --stdin is
    given.

    \b
      runyard exec --runtime python "print(1+1)"
      runyard exec ./script.py -- --fast in.csv
      runyard exec --entry main.py ./src/
      echo 'puts 1+1' | runyard exec --runtime ruby -
      echo Alice | runyard exec ./script.py --stdin -
      runyard exec plot.py --file data.csv --out results/
      runyard exec --runtime python --results '1 + 1'
      runyard exec --package humanize==4.12.3 ./script.py

    The exit code is the program's, or:

    \b
      2      usage error
      124    timeout
      125    the program could not be run
      130    cancelled (with Ctrl-C)
      137    out of memory, or killed
      128+N  ended by signal N
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    if source == "-" and given_input == "-":
        raise click.UsageError("stdin can be either the program (SOURCE -) or its input (--stdin -), not both")
    chosen = inputs.program(source, code, runtime, entry)
    options: RunOptions = {"args": list(arguments), "env": inputs.environment(env)}
    _set_limits(options, timeout, memory, cpus, limits)
    if chosen.entrypoint is not None:
        options["entrypoint"] = chosen.entrypoint
    if given_input is not None:
        options["stdin"] = inputs.input_text(given_input) or ""
    if isolation is not None:
        options["isolation"] = isolation  # type: ignore[typeddict-item]  # click has checked the value
    if packages:
        options["packages"] = packages
    files = [inputs.attachment(given) for given in attached]
    _check_combination(out, save, detach=detach, json_=json_, results=results)
    if results:
        options["results"] = True

    unread_input = unread.Report(used=source == "-" or given_input == "-", quiet=quiet)
    unread_input.look()
    try:
        with ExitStack() as stack:
            stack.enter_context(stop_signals())
            uploaded = _upload(stack, session.client, files, keep=detach)
            options["files"] = [*chosen.files, *uploaded]
            if detach:
                run = session.client.runs.start(chosen.language, chosen.code, **options)
                as_json(run.raw) if json_ else click.echo(run.id)
                return 0
            notice = None if quiet else lost
            stream = session.client.runs.stream(chosen.language, chosen.code, notice=notice, **options)
            run = watch(stream, None if json_ else Results(save), quiet=quiet or json_)
            unread_input.look()
            if json_:
                as_json(run.raw)
            elif not quiet:
                tell(run, saved=out is not None)
            kept = out is None or save_all(session.client, run, out, quiet=quiet or json_)
    except Stopped as stopped:
        return 128 + stopped.number
    return exit_code(run) or (0 if kept else SERVICE_FAILED)


def _check_combination(out: Path | None, save: Path | None, *, detach: bool, json_: bool, results: bool) -> None:
    if detach and out is not None:
        raise click.UsageError("--detach and --out cannot be combined")
    if save is not None and (detach or json_ or not results):
        raise click.UsageError("--save needs --results, and cannot be combined with --detach or --json")


def _set_limits(
    options: RunOptions,
    timeout: int | None,
    memory: int | None,
    cpus: float | None,
    others: Sequence[tuple[str, str | None]],
) -> None:
    named = {"timeout_ms": timeout, "memory_mb": memory, "cpus": cpus}
    found = {name: inputs.limit(name, value) for name, value in others}
    found |= {name: value for name, value in named.items() if value is not None}
    if found:
        options["limits"] = found  # type: ignore[typeddict-item]  # the service knows which there are


def _upload(stack: ExitStack, client: Client, files: Sequence[tuple[Path, str]], *, keep: bool) -> list[InlineFile]:
    """Upload the files. They are deleted when the command ends, unless its run continues in the background."""
    found: list[InlineFile] = []
    for path, target in files:
        meter = Meter(path.name)
        file = client.files.upload(path, progress=meter)
        meter.end()
        if not keep:
            stack.callback(_forget, client, file.id)
        found.append({"path": target, "id": file.id})
    return found


def _forget(client: Client, file_id: str) -> None:
    with suppress(RunyardError):  # it expires anyway
        client.files.delete(file_id)


def watch(stream: EventStream, results: Results | None, *, quiet: bool = False) -> Run:
    """Print the run's output and results until its end; if this is interrupted, the run ends too."""
    with stream:
        try:
            for event in stream:
                if event.tool_output and not quiet:
                    say(event.tool_output)
                if results is not None:
                    results.show(event)
            return stream.result()
        except Stopped as stopped:
            say("cancelling the run; press again to exit without waiting")
            _cancel(stream)
            raise stopped from None


def _cancel(stream: EventStream) -> None:
    try:
        run = stream.cancel()
    except RunyardError as e:
        explain(e)
        return
    if run is not None and run.ended:
        say(f"{run.id} is {run.status}")


def lost(error: RunyardError, pause_s: float) -> None:
    say(f"{error}; resuming in {pause_s:.1f} s")


def tell(run: Run, *, saved: bool) -> None:
    """Print facts of a run that neither its output nor its exit code shows."""
    if run.compile is not None:
        sys.stdout.flush()
        sys.stderr.buffer.write((run.compile.stdout + run.compile.stderr).encode(errors="replace"))
        sys.stderr.flush()
    if said := sentence(run):
        say(said)
    for hint in run.hints:
        say(hint.message)
    if run.results_dropped:
        say(f"{run.results_dropped} more results were left out")
    for name in ("stdout", "stderr"):
        if getattr(run, f"{name}_truncated"):
            say(
                f"{name} was cut after {run.limits.get('max_output_bytes', '?')} bytes (--limit max_output_bytes=N)"
            )
    if run.skipped_artifacts_count:
        listed = ", ".join(f"{skipped.path} ({skipped.reason})" for skipped in run.skipped_artifacts[:5])
        say(f"{run.skipped_artifacts_count} files were not collected: {listed}")
    if run.artifacts and not saved:
        say(f"{len(run.artifacts)} artifacts; save them with --out DIR or `runyard runs save {run.id} DIR`")


def save_all(client: Client, run: Run, folder: Path, *, quiet: bool) -> bool:
    """Save all artifacts of a run. Returns whether each could be saved."""
    good = True
    for saved in saving(run.artifacts, folder, client.files.download):
        if saved.error is not None:
            good = False
            say(f"not saved: {saved.error}")
        elif not quiet:
            say(f"saved {saved.path} ({saved.artifact.size} bytes)")
    return good


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise Stopped on the first terminating signal; a second one ends the process at once."""
    numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        for other in numbers:
            signal.signal(other, signal.SIG_DFL)
        raise Stopped(number)

    before = {
        number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
