"""What the text of runs can do to a terminal: nothing. Control characters are shown, whatever command prints them."""

from __future__ import annotations

import re
import sys

import pytest

from holdfast.cli.saying import visible
from tests.cli.shell import Shell
from tests.cli.terminal import Terminal

EVIL = "a\x1b]0;owned\x07\x1b[2J\rb\x9b31m\x7fc\u202ed"
SHOWN = r"a\x1b]0;owned\x07\x1b[2J\x0db\x9b31m\x7fc\u202ed"
AGENT = f"""
import holdfast
from holdfast import Context, step_context

EVIL = {EVIL!r}


async def ask() -> str:
    step_context.emit(EVIL)
    return EVIL


async def fail() -> None:
    raise ValueError(EVIL)


@holdfast.agent
async def evil(ctx: Context) -> str:
    ctx.progress(1, 2, EVIL, phase=EVIL)
    await ctx.step(ask, name=EVIL, key=EVIL)
    await ctx.approval(EVIL, expires="1h")
    return EVIL


@holdfast.agent(retry=holdfast.RetryPolicy(attempts=1))
async def fails(ctx: Context) -> None:
    await ctx.step(fail, name=EVIL)
"""
COMMANDS = (
    ("ls",),
    ("ls", "--tree"),
    ("ls", "--needs-me"),
    ("steps", "e"),
    ("steps", "f"),
    ("show", "e"),
    ("show", "f"),
    ("watch", "f"),
    ("logs", "f"),
    ("approve", "e"),
    ("checkpoints", "e"),
    ("top", "--once"),
    ("show", EVIL),
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def evil(shell: Shell) -> Shell:
    (shell.folder / "evil.py").write_text(AGENT)
    shell("start", "evil.py:evil", "--id", "e")
    shell("start", "evil.py:fails", "--id", "f")
    shell("worker", "evil.py", "--until-idle", code=None)
    return shell


def test_no_command_prints_control_characters_of_what_runs_say(evil: Shell) -> None:
    shown = {}
    for command in COMMANDS:
        ended = evil(*command, code=None)
        shown[command] = ended.out + ended.err
        assert not CONTROLS.search(shown[command]), (command, shown[command])
    for command in (("steps", "e"), ("show", "e"), ("watch", "f"), ("ls", "--needs-me"), ("approve", "e")):
        assert SHOWN[:12] in shown[command], (command, shown[command])


def test_json_has_the_same_text_and_no_control_characters(evil: Shell) -> None:
    for command in (("steps", "e"), ("show", "f"), ("ls",), ("watch", "f")):
        out = evil(*command, "--json", code=None).out
        assert not CONTROLS.search(out), (command, out)
    first, *_ = evil("steps", "e", "--json").json
    assert first["name"] == EVIL


def test_on_a_terminal_too_only_our_own_sequences_are_written(evil: Shell) -> None:
    for command in (("steps", "e"), ("show", "e"), ("watch", "f"), ("run", "evil.py:evil", "--id", "g")):
        terminal = Terminal(
            [sys.executable, "-m", "holdfast", *command], evil.folder, evil.environ, size=(240, 60)
        )
        try:
            terminal.ended()
        finally:
            terminal.close()
        assert SHOWN[:12] in terminal.text, (command, terminal.text)
        for hostile in ("\x1b]0;owned", "\x07", "\x1b[2J", "\x9b", "\x7f", "\u202e", "\rb"):
            assert hostile not in terminal.output, (command, terminal.output)


def test_text_without_control_characters_stays_as_it_is() -> None:
    text = "Grüße, 日本 🐙\n\tindented"
    assert visible(text) is text
    assert visible(EVIL) == SHOWN
