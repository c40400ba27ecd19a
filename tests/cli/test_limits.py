"""`holdfast limits` and `holdfast queue`: rates are listed and set, and what is wrong says what was meant."""

from __future__ import annotations

from tests.cli.shell import Shell


def test_a_rate_is_set_shown_given_back_and_deleted(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert shell("limits").out == ""
    assert (
        shell("limits", "api", "500/m", "--burst", "5").out == "api: 500/m, 5 at once, set by an operator\n"
    )
    assert shell("limits", "--json").json == [
        {
            "name": "api",
            "rate": "500/m",
            "burst": 5,
            "pinned": True,
            "wait_s": 0,
            "held_back_s": 0,
        }
    ]
    assert shell("limits", "api", "--unpin").out == "api: 500/m, 5 at once\n"
    assert shell("limits", "api", "--forget").err == "no rate 'api'\n"


def test_what_is_no_rate_is_refused_with_what_was_meant(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert "did you mean '500/m'?" in shell("limits", "api", "500 per minute", code=2).err
    assert "there is no rate 'api'" in shell("limits", "api", "--forget", code=5).err
    assert "say one thing" in shell("limits", "--forget", code=2).err


def test_a_queue_is_limited_for_all_workers_and_shown_with_what_is_in_it(shell: Shell) -> None:
    for number in range(3):
        shell("start", "agents.py:hello", "--id", f"h{number}", "--queue", "slow")
    assert shell("queue").out == "slow: 3 queued, 0 running, no limit\n"
    assert shell("queue", "slow", "--limit", "0").out == "slow: 3 queued, 0 running, at most 0 at once\n"
    shown = shell("queue", "slow", "--json").json
    assert shown == [{"name": "slow", "limit": 0, "queued": 3, "running": 0}]
    assert shell("queue", "slow", "--unlimited").out == "slow: 3 queued, 0 running, no limit\n"
    shell("worker", "agents.py", "--until-idle")
    assert [run["state"] for run in shell("ls", "--json").json] == ["succeeded"] * 3


def test_a_limit_says_which_queue_and_asks_when_that_is_empty(shell: Shell) -> None:
    shell("start", "agents.py:hello", "--id", "h1")
    assert "name the queue" in shell("queue", "--limit", "2", code=2).err
    assert "exclude each other" in shell("queue", "x", "--limit", "2", "--unlimited", code=2).err
    assert "is it the queue that is meant?" in shell("queue", "defualt", "--limit", "2").err
    assert (
        shell("queue", "*", "--limit", "9").out
        == "all queues together: 1 queued, 0 running, at most 9 at once\n"
    )
