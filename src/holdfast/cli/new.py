"""`new`: a project to begin with: an agent, its test with the chaos kit, and a README."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import click

from holdfast.cli.exits import Exit
from holdfast.cli.options import common
from holdfast.cli.saying import say
from holdfast.cli.views import print_document
from holdfast.errors import Refused, UsageError

FILES: Final = {
    "agents.py": "agents.py.txt",
    "test_agents.py": "test_agents.py.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}
"""What is made, and from which template."""


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@common
def new(folder: Path, store: str | None, as_json: bool) -> int:
    """Make a project in a new folder: an agent, a test that crashes it everywhere, and a README."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise Refused(f"{folder} has {', '.join(there)} already: name another folder, nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in FILES.items():
            text = files("holdfast.cli").joinpath("template", template).read_text(encoding="utf-8")
            filled = Template(text).safe_substitute(name=folder.resolve().name)
            (folder / name).write_text(filled, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from error
    if as_json:
        print_document({"folder": str(folder), "files": list(FILES)})
        return Exit.SUCCEEDED
    for name in FILES:
        say(str(folder / name))
    say("\nNow try:", err=True)
    say(f"  cd {shlex.quote(str(folder))}", err=True)
    say("""  holdfast run agents.py:digest --input '{"folder": "."}'""", err=True)
    say("  pytest", err=True)
    return Exit.SUCCEEDED
