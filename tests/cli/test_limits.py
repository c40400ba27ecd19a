"""`holdfast limits`: rates are listed and set, and what is wrong says what was meant."""

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
