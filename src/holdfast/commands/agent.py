"""The built-in agent `command`: any program as a durable run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.commands.door import Door
from holdfast.commands.program import CommandLine, execute
from holdfast.commands.words import RUN, SOCKET
from holdfast.context import Context
from holdfast.errors import FatalError, UsageError
from holdfast.programs import executing
from holdfast.rules.limits import limits_of
from holdfast.rules.retry import RetryPolicy
from holdfast.workspace import VARIABLE


@dataclass(frozen=True, slots=True)
class Exited:
    """How a program ended: its exit code, one of those that count as success."""

    code: int


@executing
async def command(
    ctx: Context,
    argv: list[str],
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    progress: str | None = None,
    timeout_s: float | None = None,
    retries: int = 0,
    ok_codes: list[int] | None = None,
    limits: dict[str, float | int | str] | None = None,
    workspace: bool = False,
) -> Exited:
    """Execute a program, in a group of its own, to its end. Its lines become logs of the run.

    `argv` is the command line, never given to a shell; `env` is added to the environment of the worker; `cwd` is its
    folder, that of the worker if None, or with `workspace` that of the run, which HOLDFAST_WORKSPACE names in any case.
    `progress` is a regular expression with the groups `current`, `total`,
    `percent`. `timeout_s` is per try, and there are `retries` after the first. `ok_codes` are the exit codes that count
    as success, 0 alone if None. `limits` is what the program and all that it starts may use, by the names of `Limits`:
    {"memory": "200MB", "cpu": 0.5}. After a crash the program is started again; what it did by `holdfast step NAME` is
    not done again. The run fails with the last lines of stderr.
    """
    if not argv or not argv[0]:
        raise FatalError("a command needs a program: argv is empty")
    if workspace and cwd is not None:
        raise FatalError(f"the program cannot be in its workspace and in {cwd}: give cwd, or workspace")
    folder = _workspace(ctx, wanted=workspace)
    try:
        retry, bounds = RetryPolicy(attempts=retries + 1), limits_of(limits or {})
    except UsageError as error:
        raise FatalError(f"command: {error}") from error
    line = CommandLine(
        argv=argv, cwd=cwd, env=env, progress=progress, ok_codes=ok_codes or [0], limits=bounds
    )
    async with Door(ctx) as door:
        environ = _environ(env or {}) | {RUN: ctx.run_id, SOCKET: door.path}
        if folder is not None:
            environ[VARIABLE] = folder

        async def program(line: CommandLine) -> int:
            here = replace(line, cwd=folder) if workspace else line  # not recorded: a store may move
            return await execute(here, environ, ctx.progress)

        return Exited(await ctx.step(program, line, timeout=timeout_s, retry=retry))


def _workspace(ctx: Context, *, wanted: bool) -> str | None:
    """The folder of the run; None where its store has no place for one, and none is wanted."""
    try:
        return str(ctx.workspace)
    except UsageError:
        if wanted:
            raise
        return None


def _environ(added: dict[str, str]) -> dict[str, str]:
    """That of the worker, with the folder of our own `holdfast` at the end of the path: a program may ask for steps
    wherever its worker was started from."""
    environ = {**os.environ, **added}
    ours = str(Path(sys.executable).parent)
    path = environ.get("PATH", os.defpath)
    if ours not in path.split(os.pathsep):
        environ["PATH"] = f"{path}{os.pathsep}{ours}"
    return environ
