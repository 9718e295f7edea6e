"""`runyard completion`: what a shell has to read to complete this command."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL.

    \b
      bash   eval "$(runyard completion bash)"                 in ~/.bashrc
      zsh    eval "$(runyard completion zsh)"                  in ~/.zshrc
      fish   runyard completion fish > ~/.config/fish/completions/runyard.fish
    """  # noqa: D301  # click keeps the lines behind a backspace character as they are
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "runyard", "_RUNYARD_COMPLETE").source())
