"""The click application: commands loaded when they are called, and every error one clear line with its exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click

from holdfast.cli.commands import COMMANDS, overview
from holdfast.cli.exits import Exit, exit_of_error
from holdfast.cli.saying import complain
from holdfast.errors import HoldfastError

DEBUG = "HOLDFAST_DEBUG"


class CommandGroup(click.Group):
    """The commands of a command, with a hint for one that is not there. `default`: what is meant when none is named."""

    default: str | None = None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if self.default is not None and (not args or args[0].startswith("-")) and not _asks_help(args):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"no such command '{self.name} {args[0]}'{hint}", ctx)
        return super().resolve_command(ctx, args)


def _asks_help(args: list[str]) -> bool:
    return bool({"-h", "--help"}.intersection(args))


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command = getattr(importlib.import_module(f"holdfast.cli.{found.module}"), found.function or cmd_name)
        assert isinstance(command, click.Command), cmd_name
        return command

    def get_help(self, ctx: click.Context) -> str:
        return overview().rstrip()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast", message="holdfast %(version)s")
def holdfast() -> None:
    """Durable execution for long-running AI agents."""


def leave(arguments: Sequence[str]) -> NoReturn:
    """Run the command and leave the process with its code. Never shows a traceback of ours."""
    _open_closed()
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.SUCCEEDED
    sys.exit(int(code))


def _open_closed() -> None:
    """A stream that was closed (`<&-`) leads nowhere. Else there is none, and files that we open get its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - to the end of the process


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    try:
        code = holdfast.main(args=list(arguments), prog_name="holdfast", standalone_mode=False)
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return Exit.INTERRUPTED
    except HoldfastError as error:
        return told(error)
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        complain(f"unexpected {type(error).__name__}: {error} (a bug of holdfast: {DEBUG}=1 shows where)")
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.SUCCEEDED


def told(error: HoldfastError) -> Exit:
    """Say an error of ours on stderr, and give its exit code."""
    if os.environ.get(DEBUG):
        raise error
    complain(str(error))
    return exit_of_error(error)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`: did you mean 'x'?`, when something known is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
