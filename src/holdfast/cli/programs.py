"""`-- PROGRAM ARGUMENTS…`, for `run` and `start`: any program as a run of the built-in agent `command`."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click

from holdfast import codec
from holdfast.agents import AnyAgent
from holdfast.cli.arguments import json_text
from holdfast.cli.live import PlainShow, worth_a_line
from holdfast.cli.options import DURATION
from holdfast.commands.agent import command
from holdfast.commands.lines import Gauge
from holdfast.errors import UsageError
from holdfast.model import Event
from holdfast.references import load_agent
from holdfast.rules.limits import Limits, limits_of

P = ParamSpec("P")
T = TypeVar("T")

PROGRAM: Final = "holdfast.program"
"""The key of what stands after `--`, in the context of a command."""


class WithProgram(click.Command):
    """A command that takes a program after `--`: nothing of that is an option of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[PROGRAM] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "| -- PROGRAM ARGUMENTS..."]


@dataclass(frozen=True, slots=True)
class Program:
    """What was typed: the program, and the options that are about it."""

    argv: tuple[str, ...]
    cwd: str | None  # None: its workspace
    env: tuple[str, ...]
    progress: str | None
    timeout_s: float | None
    retries: int
    ok_codes: tuple[int, ...]
    limits: Limits | None

    @property
    def agent(self) -> AnyAgent:
        """What executes it."""
        return command

    def payload(self) -> bytes:
        """The input of its run. Raises UsageError for what could never run."""
        if self.progress is not None:
            Gauge(self.progress)
        found = shutil.which(self.argv[0], path=self._variables().get("PATH"))
        # What is in a workspace only the run knows.
        if found is None and self.cwd is not None and not Path(self.cwd, self.argv[0]).exists():
            raise UsageError(
                f"there is no program {self.argv[0]!r} on the PATH: after `--` stands a program and its "
                "arguments, as one types them (for a line of shell: `-- sh -c '…'`)"
            )
        return codec.input_json(
            command.fn,
            (
                list(self.argv),
                self.cwd,
                self._variables() or None,
                self.progress,
                self.timeout_s,
                self.retries,
                sorted(set(self.ok_codes)) or None,
                None if self.limits is None else _told(self.limits),
                self.cwd is None,
            ),
        )

    def _variables(self) -> dict[str, str]:
        pairs = [one.partition("=") for one in self.env]
        wrong = [name for name, equals, _ in pairs if not (name and equals)]
        if wrong:
            raise UsageError(f"--env {wrong[0]}: write NAME=VALUE")
        return {name: value for name, _, value in pairs}

    def options(self) -> list[str]:
        """The options, so that the same run is named from any folder."""
        told = ["--workspace"] if self.cwd is None else ["--cwd", self.cwd]
        for pair in self.env:
            told += ["--env", pair]
        if self.progress is not None:
            told += ["--progress", self.progress]
        if self.timeout_s is not None:
            told += ["--timeout", f"{self.timeout_s:.15g}"]
        if self.retries:
            told += ["--retry", str(self.retries)]
        if self.ok_codes:
            told += ["--ok-codes", ",".join(map(str, self.ok_codes))]
        for name, value in () if self.limits is None else _told(self.limits).items():
            told += ["--limit", f"{name}={value}"]
        return told


def _told(limits: Limits) -> dict[str, float | int]:
    """Those that are set, sizes in bytes."""
    return {name: getattr(limits, name) for name in limits.asked}


class CodesType(click.ParamType[tuple[int, ...]]):
    """Exit codes: `0,3`."""

    name = "codes"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        codes = value.split(",")
        if not all(code.strip().isdecimal() and int(code) <= 255 for code in codes):
            self.fail(f"{value!r} is no list of exit codes: write them with commas, 0,3", param, ctx)
        return tuple(int(code) for code in codes)


class LimitType(click.ParamType[tuple[str, str]]):
    """A limit: `memory=200MB`."""

    name = "limit"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = (one.strip() for one in value.partition("="))
        if not (name and equals and text):
            self.fail(f"write NAME=VALUE, as in memory=200MB or cpu=0.5, not {value!r}", param, ctx)
        return name, text


def limits_typed(pairs: Sequence[tuple[str, str]]) -> Limits | None:
    """What was typed as `--limit`; None for none. Raises UsageError for what cannot be meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise UsageError(f"--limit {next(one for one in names if names.count(one) > 1)} is given twice")
    return limits_of(found) if found else None


_OPTIONS: Final = (
    click.option("--cwd", metavar="FOLDER", help="The program's folder. [default: this one]"),
    click.option("--workspace", is_flag=True, help="Execute it in the run's own folder, instead of --cwd."),
    click.option(
        "--env", metavar="NAME=VALUE", multiple=True, help="Add to the program's environment; repeatable."
    ),
    click.option(
        "--progress",
        metavar="REGEX",
        help="Read progress from the program's lines: groups current, total, percent.",
    ),
    click.option("--timeout", type=DURATION, help="End a try of the program after so long."),
    click.option(
        "--retry",
        "retries",
        type=click.IntRange(0, 999),
        default=0,
        help="Tries after the first. [default: 0]",
    ),
    click.option(
        "--ok-codes", type=CodesType(), default="0", help="Exit codes that are success. [default: 0]"
    ),
    click.option(
        "--limit",
        "limits",
        type=LimitType(),
        metavar="NAME=VALUE",
        multiple=True,
        help="What it may use with all that it starts: memory=200MB, cpu=0.5, processes=64, …; repeatable.",
    ),
)
_NAMES: Final = ("cwd", "workspace", "env", "progress", "timeout", "retries", "ok_codes", "limits")
_CALLED: Final = {"retries": "--retry", "ok_codes": "--ok-codes", "limits": "--limit"}


def takes_program(function: Callable[Concatenate[Program | None, P], T]) -> Callable[P, T]:
    """The options of a program; the function gets the Program as its first argument, None without a `--`."""

    @functools.wraps(function)
    def gathered(*args: P.args, **kwargs: P.kwargs) -> T:
        ctx = click.get_current_context()
        typed = {name: kwargs.pop(name) for name in _NAMES}
        return function(_program(ctx, kwargs.get("agent"), typed), *args, **kwargs)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def _program(ctx: click.Context, agent: object, typed: dict[str, Any]) -> Program | None:
    argv: Sequence[str] | None = ctx.meta.get(PROGRAM)
    if argv is None:
        if agent is None:
            raise click.UsageError(
                "Missing argument: name an agent, FILE.py:NAME, or a program after `--`", ctx
            )
        given = [name for name in _NAMES if ctx.get_parameter_source(name) is not _DEFAULT]
        if given:
            option = _CALLED.get(given[0], f"--{given[0]}")
            raise click.UsageError(f"{option} is for a program after `--`, not for an agent", ctx)
        return None
    if agent is not None:
        raise click.UsageError(
            f"{agent!r} before `--` and {' '.join(argv)!r} after it: name an agent or a program", ctx
        )
    if not argv or not argv[0]:
        raise click.UsageError("after `--` stands a program and its arguments", ctx)
    codes = typed["ok_codes"]
    return Program(
        tuple(argv),
        _folder(ctx, typed["cwd"], typed["workspace"]),
        typed["env"],
        typed["progress"],
        typed["timeout"],
        typed["retries"],
        () if codes == (0,) else codes,
        limits_typed(typed["limits"]),
    )


def _folder(ctx: click.Context, typed: str | None, workspace: bool) -> str | None:
    """Where the program is executed; None: in its workspace."""
    if workspace:
        if typed is not None:
            raise click.UsageError(f"--workspace and --cwd {typed}: a program is executed in one folder", ctx)
        return None
    cwd = Path(typed or ".").absolute()
    if not cwd.is_dir():
        raise click.UsageError(f"--cwd: there is no folder {str(cwd)!r}", ctx)
    return os.path.normpath(cwd)


def wanted(
    reference: str | None, program: Program | None, given: str | None
) -> tuple[AnyAgent, bytes | None]:
    """What was asked for: the agent, and the input if one was given."""
    if program is not None:
        if given is not None:
            raise click.UsageError(
                "--input is for an agent: what stands after `--` is the input of a program"
            )
        return program.agent, program.payload()
    assert reference is not None
    loaded = load_agent(reference)
    return loaded, None if given is None else codec.normalise_input(loaded.fn, json_text(given, "--input"))


_DEFAULT: Final = click.core.ParameterSource.DEFAULT


class ProgramShow(PlainShow):
    """For a program whose own lines are on the terminal: of the events what it does not say itself."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def event(self, event: Event) -> None:
        if worth_a_line(event) and event.type not in ("run.succeeded", "run.failed"):
            super().event(event)
