"""`holdfast approve`, effects in `show` and `steps`, cursors, and text in `watch --output`."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.shell import Shell, finish

AGENTS = """
import asyncio
import os
from pathlib import Path

from holdfast import Context, agent, step_context


def pay(who: str) -> str:
    with Path("book").open("a") as book:
        book.write(f"{who}\\n")
    if not Path("mended").exists():
        os.kill(os.getpid(), 9)
    return f"paid {who}"


@agent
async def payer(ctx: Context) -> str:
    return await ctx.step(pay, "ada", effect="once", key="ada")


async def speak(words: int) -> int:
    for number in range(step_context.cursor(int, 0), words):
        step_context.emit(f"word {number}\\n")
        await step_context.save(number + 1)
        await asyncio.sleep(0.05 if not Path("hurry").exists() else 0)
    return words


@agent
async def speaker(ctx: Context, words: int) -> int:
    return await ctx.step(speak, words)
"""


@pytest.fixture
def held(shell: Shell) -> Shell:
    """A shell with a run `p` that is held for its effect."""
    (shell.folder / "effects.py").write_text(AGENTS)
    shell("run", "effects.py:payer", "--id", "p", code=-signal.SIGKILL)
    (shell.folder / "mended").touch()
    left = shell("run", "effects.py:payer", "--id", "p", code=4)
    assert "holdfast approve p 1 --done JSON" in left.err
    return shell


def test_a_held_effect_is_shown_with_the_commands_that_lead_on(held: Shell) -> None:
    page = held("show", "p").out
    assert "nobody knows whether 'pay' (entry 1) happened" in page
    assert "entry 1, pay[ada]: unknown" in page
    for answer in ("--done JSON", "--rerun", "--fail"):
        assert f"holdfast approve p 1 {answer}" in page
    error = held("show", "p", "--json").json["error"]
    assert (error["type"], error["class"]) == ("EffectUnknown", "unknown")
    assert [step["status"] for step in held("steps", "p", "--json").json] == ["intended"]


@pytest.mark.parametrize(
    ("answer", "code", "out", "book"),
    [
        (("--done", '"paid by hand"'), 0, '"paid by hand"', 1),
        (("--rerun",), 0, '"paid ada"', 2),
        (("--fail", "no money"), 1, "no money", 1),
        (("--fail",), 1, "given up", 1),
    ],
    ids=["done", "rerun", "fail with a message", "fail"],
)
def test_each_answer_leads_on(held: Shell, answer: tuple[str, ...], code: int, out: str, book: int) -> None:
    assert held("approve", "p", "1", *answer).out.startswith("p: queued")
    ended = held("run", "effects.py:payer", "--id", "p", code=code)
    assert out in ended.out + ended.err
    assert (held.folder / "book").read_text() == "ada\n" * book
    told = [
        line
        for line in held("watch", "p", "--json", code=None).json_lines
        if line["type"] == "effect.settled"
    ]
    assert [line["data"]["effect"] for line in told] == [1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("p", "1"), 5, "has asked nothing yet"),
        (("p", "1", "--rerun", "--fail"), 2, "say one of"),
        (("p", "1", "--done", "{"), 2, "is not JSON"),
        (("p", "9", "--rerun"), 6, "unknown are: 1"),
        (("nobody", "1", "--rerun"), 5, "nobody"),
    ],
)
def test_what_is_no_answer_is_refused_with_the_way_out(
    held: Shell, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert says in held("approve", *arguments, code=code).err
    assert held("approve", "p", "1", "--rerun", "--json").json["state"] == "queued"


def test_watch_shows_streamed_text_and_show_the_cursor(shell: Shell) -> None:
    (shell.folder / "effects.py").write_text(AGENTS)
    given = json.dumps({"words": 4000})
    shell("start", "effects.py:speaker", "--id", "s", "--input", given)
    worker = shell.begin("worker", "effects.py", "--until-idle")
    watching = shell.begin("watch", "s", "--output", "--json")
    plain = shell.begin("watch", "s", "--output")
    assert plain.stdout is not None
    while "output" not in plain.stdout.readline():
        pass
    while "cursor" not in (page := shell("show", "s").out):
        pass
    assert "speak: " in page
    shell.hurry()
    finish(worker)
    finish(plain)
    lines = [json.loads(line) for line in finish(watching).out.splitlines()]
    streamed = [line for line in lines if line["type"] == "output"]
    assert streamed[0]["n"] is None
    assert streamed[0]["data"]["text"].startswith("word ")
    assert [line["n"] for line in lines if line["n"]] == list(range(1, len(lines) - len(streamed) + 1))
    assert "cursor" not in shell("show", "s").out
