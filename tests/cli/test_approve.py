"""Answering from a shell: the inbox of all runs, `approve`, and what `show` says of a question."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.cli.shell import Shell

ASKS = """
from __future__ import annotations

import holdfast


@holdfast.agent
async def ships(ctx: holdfast.Context, name: str) -> str:
    answer = await ctx.approval(
        f"Ship {name}?", ["yes", "not yet"], escalate="20d", escalate_to="ann", context={"name": name}
    )
    return f"{answer.choice} by {answer.by} ({answer.comment})"


@holdfast.agent
async def asks_twice(ctx: holdfast.Context) -> list[str]:
    async def ask(question: str) -> str:
        return (await ctx.approval(question, ["a", "b"])).choice

    return list(await ctx.race({"one": lambda: ask("one?"), "two": lambda: ask("two?")}))
"""
NEED_KEYS = [
    "kind", "run", "agent", "question", "what", "options", "overdue", "escalate_to", "since", "expires_at", "command",
]  # fmt: skip
APPROVAL_KEYS = [
    "run", "agent", "n", "question", "options", "context", "status", "overdue", "escalate_to", "hash", "asked_at",
    "escalate_at", "expires_at", "choice", "by", "comment", "answered_at",
]  # fmt: skip


@pytest.fixture
def asking(shell: Shell) -> Shell:
    """A shell in whose store the run `s1` asks a question."""
    (shell.folder / "asks.py").write_text(ASKS)
    shell("run", "asks.py:ships", "--id", "s1", "--input", '{"name": "kelp"}', code=4)
    return shell


def test_a_question_is_listed_shown_and_answered(asking: Shell) -> None:
    table = asking("ls", "--needs-me").out
    assert "Ship kelp?" in table and "holdfast approve s1 yes|'not yet' --question 1" in table
    (need,) = asking("ls", "--needs-me", "--json").json
    assert list(need) == NEED_KEYS
    assert (need["kind"], need["run"], need["question"], need["options"], need["overdue"]) == (
        "approval", "s1", 1, ["yes", "not yet"], False,
    )  # fmt: skip
    shown = asking("show", "s1").out
    assert "waiting (approval)" in shown
    for text in (
        "it asks: Ship kelp?",
        '"name": "kelp"',
        "holdfast approve s1 'not yet' --question 1",
        "to ann",
    ):
        assert text in shown
    (asked,) = asking("approve", "s1", "--json").json
    assert list(asked) == APPROVAL_KEYS
    answered = asking("approve", "s1", "yes", "--by", "bob", "--comment", "go", "--json").json
    assert (answered["status"], answered["choice"], answered["by"]) == ("answered", "yes", "bob")
    assert asking("ls", "--needs-me", "--json").json == []
    assert asking("run", "asks.py:ships", "--id", "s1").json == "yes by bob (go)"
    assert "approval.answered 1 'Ship kelp?': 'yes' by bob" in " ".join(asking("watch", "s1").out.split())


def test_answers_that_cannot_be_say_why_and_leave_with_their_code(asking: Shell) -> None:
    assert "use one of yes, not yet" in asking("approve", "s1", "no", code=2).err
    assert "it asked: 1" in asking("approve", "s1", "yes", "--question", "7", code=5).err
    asking("approve", "s1", "yes", "--by", "ann")
    asking("approve", "s1", "yes", "--by", "bob")  # the same again
    assert "ann said 'yes'" in asking("approve", "s1", "not yet", code=6).err
    assert "asks nothing now" in asking("approve", "s1").err
    asking("signal", "s1", "holdfast:approval/1", code=2)


def test_of_several_questions_one_must_be_named(asking: Shell) -> None:
    asking("run", "asks.py:asks_twice", "--id", "t", code=4)
    assert "asks 2 questions" in asking("approve", "t", "a", code=6).err
    assert "holdfast approve t b --question 2" in asking("approve", "t").out
    asking("approve", "t", "b", "--question", "2")
    assert asking("run", "asks.py:asks_twice", "--id", "t").json[1] == "b"


def test_what_only_a_person_can_move_is_listed_with_its_command(asking: Shell) -> None:
    asking("start", "agents.py:hello", "--id", "h")
    asking("pause", "h")
    kinds = [(need["kind"], need["command"]) for need in asking("ls", "--needs-me", "--json").json]
    assert [kind for kind, _ in kinds] == ["approval", "paused"]
    assert kinds[1][1] == "holdfast resume h"
    assert [need["run"] for need in asking("ls", "--needs-me", "-n", "1", "--json").json] == ["s1"]
    asking("ls", "--needs-me", "--agent", "hello", code=2)
    asking("resume", "h")
    asking("approve", "s1", "yes")
    assert "nothing waits for a person" in asking("ls", "--needs-me").err


def test_at_a_terminal_the_question_is_shown_and_the_answer_asked_for(asking: Shell) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "holdfast", "approve", "s1"]
    with subprocess.Popen(
        command, cwd=asking.folder, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(leader, b"maybe\nnot yet\n")
        out, err = process.communicate(timeout=30)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 0, err
    assert "Ship kelp?" in out and "'not yet'" in out
    assert "yes, not yet" in err


def test_a_start_sends_its_signal_once(shell: Shell) -> None:
    for _ in range(2):
        shell("start", "agents.py:hello", "--id", "h", "--signal", "go", "--data", '{"n": 1}')
    assert "needs the run's id" in shell("start", "agents.py:hello", "--signal", "go", code=2).err
