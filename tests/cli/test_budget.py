"""`holdfast budget`: budgets are listed, shown, set, raised and forgotten, and a parked run goes on by one command."""

from __future__ import annotations

from tests.cli.shell import Shell

PAID = """
import holdfast
from holdfast import Budget, Context, Cost, step_context


async def ask(n: int) -> int:
    step_context.used(tokens_out=10, usd=0.4)
    return n


@holdfast.agent(budget=Budget(usd=1))
async def paid(ctx: Context, times: int) -> int:
    for n in range(times):
        await ctx.step(ask, n, cost=Cost(usd=0.5))
    return times


async def look(what: str) -> str:
    return "nothing"


@holdfast.agent
async def stuck(ctx: Context) -> str:
    for _ in range(7):
        found = await ctx.step(look, "kelp", tool=True)
    return found
"""


def test_a_run_over_its_budget_says_why_and_goes_on_by_the_command_that_is_shown(shell: Shell) -> None:
    (shell.folder / "paid.py").write_text(PAID)
    shell("start", "paid.py:paid", "--input", '{"times": 4}', "--id", "p1")
    shell("worker", "paid.py", "--until-idle")
    shown = shell("show", "p1").out
    assert "waiting (budget)" in shown
    assert "step 'ask' may use $0.50; of the $1.00 of run:p1 $0.80 are used" in shown
    assert "usd: $0.8000 of $1.00, $0.2000 left" in shown
    assert "holdfast budget raise p1 --usd 0.30" in shown
    assert "holdfast show p1" in shell("ls", "--needs-me").out
    assert "usd: $0.8000 of $1.30" in shell("budget", "raise", "p1", "--usd", "0.30").out
    assert "its budget has room again: any worker goes on with it" in shell("show", "p1").out
    shell("worker", "paid.py", "--until-idle")
    shell("budget", "raise", "p", "--usd", "5")
    shell("worker", "paid.py", "--until-idle")
    view = shell("show", "p1", "--json").json
    assert view["state"] == "succeeded"
    units = {one["unit"]: one for one in view["budget"]["units"]}
    assert units["usd"] == {"unit": "usd", "limit": 6.3, "used": 1.6, "reserved": 0, "remaining": 4.7}
    assert view["budget"]["scope"] == "run:p1"


def test_shared_budgets_are_set_listed_shown_and_forgotten(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert shell("budget", "list").err == "no shared budgets (--all lists those of runs)\n"
    assert shell("budget", "set", "agent:hello", "--usd", "5", "--steps", "9", "--per", "1d").out == (
        "agent:hello, anew every 1d 0h\n  steps: 0 of 9, 9 left\n  usd: $0.0000 of $5.00, $5.00 left\n"
    )
    (listed,) = shell("budget", "list", "--json").json
    assert (listed["scope"], listed["per_s"], listed["soft"], listed["waiting"]) == (
        "agent:hello",
        86400,
        0.8,
        0,
    )
    shell("budget", "set", "h1", "--working-s", "2h", "--soft", "0.5")
    assert [one["scope"] for one in shell("budget", "list", "--all", "--json").json] == [
        "agent:hello",
        "run:h1",
    ]
    assert [one["scope"] for one in shell("budget", "show", "h1", "--json").json] == ["run:h1", "agent:hello"]
    assert "working_s: 0ms of 2h 00m" in shell("budget", "show", "h1").out
    assert shell("budget", "remove", "agent:hello").out == "agent:hello: removed\n"
    assert "no budget 'agent:hello'" in shell("budget", "remove", "agent:hello", code=5).err
    shell("worker", "agents.py", "--until-idle")
    units = shell("budget", "show", "run:h1", "--json").json[0]["units"]
    assert {one["unit"]: one["used"] for one in units}["steps"] == 1


def test_set_without_soft_leaves_the_share_that_was_set(shell: Shell) -> None:
    def soft(*options: str) -> object:
        return shell("budget", "set", "agent:hello", *options, "--json").json["soft"]

    shell("start", "agents.py:hello", "--id", "h1")
    assert soft("--usd", "5") == 0.8
    assert soft("--usd", "5", "--soft", "0.5") == 0.5
    assert soft("--usd", "1") == 0.5
    assert soft("--steps", "9") == 0.5
    assert soft("--steps", "9", "--soft", "0.9") == 0.9
    assert shell("budget", "set", "h1", "--usd", "5", "--json").json["soft"] == 0.8


def test_what_is_wrong_says_what_was_meant(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert "did you mean 'raise'?" in shell("budget", "rase", "h1", "--usd", "5", code=2).err
    assert "say how much of what" in shell("budget", "raise", "h1", code=2).err
    assert "no run 'h2'" in shell("budget", "set", "h2", "--usd", "5", code=5).err
    assert "has no limit of usd to raise" in shell("budget", "raise", "h1", "--usd", "5", code=6).err
    assert "dollars, 0 or more" in shell("budget", "set", "h1", "--usd", "-5", code=2).err
    assert "has no window" in shell("budget", "set", "h1", "--usd", "5", "--per", "1d", code=2).err
    assert "h1 has no budget: holdfast budget set h1 --usd 5" in shell("budget", "show", "h1").err
    shell("budget", "set", "agent:hello", "--usd", "5")
    assert "did you mean 'agent:hello'?" in shell("budget", "show", "agent:helo", code=5).err


def test_a_run_in_a_loop_shows_what_it_repeats_and_resume_goes_on(shell: Shell) -> None:
    (shell.folder / "paid.py").write_text(PAID)
    shell("start", "paid.py:stuck", "--id", "s1")
    shell("worker", "paid.py", "--until-idle")
    shown = shell("show", "s1").out
    assert "waiting (loop)" in shown
    assert "look was called 6 times with the same arguments and returned the same" in shown
    assert "The arguments: ('kelp',)" in shown
    assert "holdfast resume s1" in shell("ls", "--needs-me").out
    shell("resume", "s1")
    shell("worker", "paid.py", "--until-idle")
    assert shell("show", "s1", "--json").json["state"] == "succeeded"
