"""`completion`: the script that completes commands, options and run ids in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from holdfast.cli.exits import Exit
from holdfast.cli.options import common
from holdfast.cli.saying import say
from holdfast.cli.views import print_document

HOW = {
    "bash": 'eval "$(holdfast completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(holdfast completion zsh)"   # in ~/.zshrc',
    "fish": "holdfast completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(tuple(HOW)))
@common
def completion(shell: str, store: str | None, as_json: bool) -> int:
    """Print the completion script for a shell."""
    from holdfast.cli.app import holdfast

    kind = get_completion_class(shell)
    assert kind is not None, shell
    script = kind(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").source()
    if as_json:
        print_document({"shell": shell, "script": script})
    else:
        say(script)
        say(HOW[shell], err=True)
    return Exit.SUCCEEDED
