"""Where the runs of a demo are stored: in a file, or in a PostgreSQL that is started for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.stage.screen import Screen
from examples.stage.shell import Shell

WORDS = "sqlite, postgres, or postgresql://USER@HOST/DATABASE"


class NoStore(Exception):
    """There is no such place, or it cannot be made; the message says why."""


@contextmanager
def stored(word: str, folder: Path, screen: Screen) -> Iterator[str]:
    """The address of a store with nothing in it. A server of ours lasts as long as this does."""
    if word in ("", "sqlite"):
        yield str(folder / "holdfast.db")
    elif word == "postgres":
        with _server(screen) as url:
            yield url
    elif word.startswith(("postgresql://", "postgres://")):
        mark = "&" if "?" in word else "?"
        schema = f"holdfast_demo_{os.urandom(3).hex()}"
        screen.line(
            "·", f"everything of this demo is in the schema {schema} of that database, and stays there"
        )
        yield f"{word}{mark}schema={schema}"
    else:
        raise NoStore(f"STORE={word} is no store of the demo: {WORDS}")


@contextmanager
def _server(screen: Screen) -> Iterator[str]:
    """A server that is durable as a real one is: a demo of what survives proves nothing on another."""
    from tools.postgres import Server  # and with it the driver, which only this needs

    try:
        server = Server(settings=())
    except (ImportError, OSError, AssertionError) as error:
        raise NoStore(
            f"no PostgreSQL can be started here: {error}; STORE=postgresql://… takes yours"
        ) from None
    try:
        server.start()
        screen.line("·", f"PostgreSQL {server.version} listens at {server.url}, durable, with nothing in it")
        yield server.url
    finally:
        server.remove()


def moved(shell: Shell, run: str, folder: Path, screen: Screen) -> Shell:
    """The commands on a copy of the run in a file, which outlasts the server: it is exported and imported."""
    taken, copy = folder / f"{run}.jsonl", Shell(str(folder / "holdfast.db"), shell.agent)
    shell.say("export", run, str(taken))
    copy.say("import", str(taken))
    if copy.steps(run) != shell.steps(run):
        raise NoStore(f"{run} is not the same after it was moved to {copy.store}")
    screen.line("·", f"moved to {copy.store} by export and import: there it stays, to look around")
    return copy
