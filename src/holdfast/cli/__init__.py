"""The shell: `holdfast`. Asking for help or the version loads nothing but this file and the list of commands,
and a step of a program hardly more."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the arguments name, and leave with its exit code."""
    arguments = sys.argv[1:]
    completing = "_HOLDFAST_COMPLETE" in os.environ
    if not completing and (not arguments or arguments in (["--help"], ["-h"])):
        from holdfast.cli.commands import overview

        sys.stdout.write(overview())
        sys.exit(0)
    if arguments == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"holdfast {version('holdfast')}\n")
        sys.exit(0)
    if not completing and arguments[:1] == ["step"]:
        from holdfast.commands.step import quick

        code = quick(arguments)
        if code is not None:
            sys.exit(code)
    from holdfast.cli.app import leave

    leave(arguments)
