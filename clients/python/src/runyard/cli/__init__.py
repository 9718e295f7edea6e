"""The command line `runyard`: a program's output on stdout and stderr as it comes, its exit code as the own.

Messages of this tool itself go to stderr, each line with the prefix `runyard: `.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Sequence

import click

from runyard._version import __version__
from runyard.cli import doctor, files, functions, keys, login, repl, runs, sessions, usage
from runyard.cli.completion import completion
from runyard.cli.execute import execute
from runyard.cli.session import Session
from runyard.cli.speech import explain, say
from runyard.errors import RunyardError

#: `runyard` itself failed; the same code as of docker and podman. A usage error is 2.
FAILED = 125


class _Commands(click.Group):
    """All commands. A reader of our output that went away is no error of ours: click would make it one."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Nor may the interpreter report it at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        return found


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--url", metavar="URL", help="URL of the service [RUNYARD_URL, http://localhost:8080].")
@click.option("--api-key", metavar="KEY", help="API key; visible in the process list, so prefer RUNYARD_API_KEY.")
@click.version_option(__version__, prog_name="runyard")
@click.pass_context
def cli(context: click.Context, url: str | None, api_key: str | None) -> None:
    """Run untrusted code with Runyard."""
    context.obj = context.with_resource(Session(url, api_key))


def _alias(command: click.Command, name: str) -> click.Command:
    """Return a command under a second name."""
    found = copy.copy(command)
    found.name, found.short_help = name, f"Same as {command.name}."
    return found


for command in (
    execute,
    _alias(execute, "run"),
    login.login,
    login.logout,
    login.whoami,
    doctor.languages,
    runs.runs,
    files.files,
    keys.keys,
    sessions.sessions,
    functions.functions,
    repl.repl,
    usage.usage,
    doctor.doctor,
    completion,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Errors are printed as a sentence, never as a traceback."""
    try:
        code = cli.main(args=arguments, prog_name="runyard", standalone_mode=False)
    except click.ClickException as e:
        e.show()
        return e.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except RunyardError as e:
        explain(e)
        return FAILED
    except OSError as e:
        say(f"{e.filename}: {e.strerror}" if e.filename is not None else str(e))
        return FAILED
    return code if isinstance(code, int) else 0
