"""`step` and `progress`: what a program asks of the run that executes it."""

from __future__ import annotations

import click

from holdfast.cli.options import DURATION
from holdfast.cli.programs import PROGRAM, WithProgram
from holdfast.commands import step as asking


class StepCommand(WithProgram):
    """A command with a command after `--`."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*click.Command.collect_usage_pieces(self, ctx), "-- COMMAND ARGUMENTS..."]


@click.command(cls=StepCommand)
@click.argument("name", metavar="NAME")
@click.option(
    "--retry", "retries", type=click.IntRange(0, 999), default=0, help="Tries after the first. [default: 0]"
)
@click.option("--timeout", type=DURATION, help="End a try after so long.")
@click.pass_context
def step(ctx: click.Context, name: str, retries: int, timeout: float | None) -> int:
    """Execute a command once in the life of the run, in a program that `holdfast run -- PROGRAM` executes.

    Its stdout is passed on, and recorded when it ends with 0. When the program is started again, after a crash say, the
    recorded stdout is printed at once, and the command not executed. Otherwise its exit code is that of the command.
    """
    argv = ctx.meta.get(PROGRAM)
    if not argv:
        raise click.UsageError("after `--` stands the command: holdfast step NAME -- COMMAND ARGUMENTS…", ctx)
    return asking.step(name, argv, retries, timeout)


@click.command()
@click.argument("current", type=float)
@click.argument("total", type=float, required=False)
@click.argument("text", default="")
def progress(current: float, total: float | None, text: str) -> int:
    """Tell how far the program is: `holdfast progress 3 10 "third of ten"`. Shown wherever the run is."""
    return asking.progress(current, total, text)
