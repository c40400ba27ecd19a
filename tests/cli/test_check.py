"""`holdfast check`: what CI asks before new code is let loose on stored runs."""

from __future__ import annotations

from tests.cli.shell import Shell

CHANGED = """
import holdfast


def greet(name: str) -> str:
    return f"hello {name}"


@holdfast.agent
async def hello(ctx: holdfast.Context, name: str = "world") -> str:
    return await ctx.step(greet, name, name="welcome")
"""


def test_check_lists_the_agents_of_a_file(shell: Shell) -> None:
    done = shell("check", "agents.py", "--json")
    names = {one["agent"] for one in done.json}
    assert {"hello", "count"} <= names


def test_check_replays_a_run_and_leaves_with_1_when_the_code_does_not_fit(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "one")
    fits = shell("check", "agents.py", "--replay", "one")
    assert fits.out == "fits  one: it finishes\n"
    (shell.folder / "changed.py").write_text(CHANGED)
    broken = shell("check", "changed.py", "--replay", "one", code=1)
    assert broken.out.startswith("DOES NOT FIT  one: the code calls 'welcome'")
    assert "    the code: 'welcome' (setup" in broken.out
    assert "    recorded: entry 1: step 'greet' (setup" in broken.out
    told = shell("check", "changed.py", "--replay", "one", "--whole", "--json", code=1).json
    assert (told[0]["run"], told[0]["fits"]) == ("one", False)
    shell("check", "changed.py", "--replay", "nobody", code=5)


def test_check_tries_every_unfinished_run_of_the_files(shell: Shell) -> None:
    shell("run", "agents.py:hello", "--id", "done")
    for number in range(2):
        shell("start", "agents.py:hello", "--id", f"queued-{number}")
    told = shell("check", "agents.py", "--unfinished", "--json").json
    assert {one["run"] for one in told} == {"queued-0", "queued-1"}
