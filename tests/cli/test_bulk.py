"""Many runs at once: chosen, asked about, steered, deleted."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def waiting(shell: Shell) -> Shell:
    """Three runs that wait for a signal, and one that is done."""
    for number in (1, 2, 3):
        shell(
            "start",
            "agents.py:patient",
            "--id",
            f"w{number}",
            "--tag",
            f"customer={number}",
            "--tag",
            "night",
        )
    shell("start", "agents.py:hello", "--id", "h1", "--tag", "night")
    shell("worker", "agents.py", "--until-idle")
    return shell


def ids(told: str) -> list[str]:
    return [line.split()[0] for line in told.splitlines() if line[:1] in "wh"]


def test_runs_are_found_by_tag_and_by_text(waiting: Shell) -> None:
    assert ids(waiting("ls", "--tag", "customer=2").out) == ["w2"]
    assert ids(waiting("ls", "--tag", "night").out) == ["h1", "w3", "w2", "w1"]
    assert ids(waiting("ls", "--search", "CUSTOMER=3").out) == ["w3"]
    assert waiting("ls", "--tag", "night", "--state", "succeeded", "--json").json[0]["tags"] == {"night": ""}
    assert "no run fits" in waiting("ls", "--search", "customer=4").err


def test_tags_are_changed_and_shown(waiting: Shell) -> None:
    assert waiting("tag", "h1", "done=yes", "--remove", "night").out == "h1: done=yes\n"
    assert "done=yes" in waiting("show", "h1").out
    assert waiting("tag", "h1", "a b=", "--json").json["tags"] == {"a b": "", "done": "yes"}
    assert "no name for a tag" in waiting("tag", "h1", "=x", code=2).err


def test_many_runs_are_steered_only_when_somebody_says_so(waiting: Shell) -> None:
    refused = waiting("cancel", "--agent", "patient", "--state", "waiting", code=6)
    assert "3 runs (w3, w2, w1): say --yes" in refused.err
    told = waiting("cancel", "--agent", "patient", "--dry-run")
    assert told.out.split() == ["w3", "w2", "w1"] and "nothing was done" in told.err
    assert [one["state"] for one in waiting("ls", "--json").json] == ["succeeded", *["waiting"] * 3]
    assert waiting("cancel", "--agent", "patient", "--state", "waiting", "--yes", "--json").json == [
        {"id": each, "cancelled": True, "error": None} for each in ("w3", "w2", "w1")
    ]
    assert [one["state"] for one in waiting("ls", "--json").json] == ["succeeded", *["cancelled"] * 3]


def test_what_refuses_is_told_and_keeps_the_others_from_nothing(waiting: Shell) -> None:
    done = waiting("cancel", "w1", "h1", "w3", code=6)
    assert "w1: cancelled" in done.out and "w3: cancelled" in done.out
    assert "h1: not cancelled: run h1 is succeeded" in done.out
    assert "2 of 3 runs" in done.err


def test_a_choice_that_cannot_be_meant_is_refused(waiting: Shell) -> None:
    assert "name a run by its id, or choose" in waiting("pause", code=2).err
    assert "not both" in waiting("pause", "w1", "--agent", "patient", code=2).err
    assert "only those in queued" in waiting("cancel", "--state", "succeeded", code=2).err
    assert "of one run" in waiting("retry", "--agent", "patient", "--accept", "1", code=2).err
    assert "no run fits" in waiting("resume", "--agent", "nobody", "--yes").err


def test_paused_and_cancelled_runs_go_on_in_bulk(waiting: Shell) -> None:
    waiting("pause", "--tag", "night", "--state", "waiting", "-y")
    assert {one["reason"] for one in waiting("ls", "--state", "waiting", "--json").json} == {"paused"}
    waiting("resume", "--search", "customer", "-y")
    assert len(waiting("ls", "--state", "queued", "--json").json) == 3
    waiting("cancel", "w1", "w2")
    waiting("retry", "--state", "cancelled", "-y")
    assert len(waiting("ls", "--state", "queued", "--json").json) == 3


def test_gc_deletes_what_ended_long_ago_and_says_what_it_would(waiting: Shell) -> None:
    assert waiting("gc", "--json").json == {"found": {}, "deleted": 0, "workspaces": 0}
    waiting("cancel", "w1", "w2")
    told = waiting("gc", "--older-than", "0", "--dry-run")
    assert told.out.split() == ["1", "hello", "2", "patient"] and "3 runs would be deleted" in told.err
    assert "say --yes" in waiting("gc", "--older-than", "0", code=6).err
    assert waiting("gc", "--older-than", "0", "--yes", "--json").json["deleted"] == 3
    assert ids(waiting("ls").out) == ["w3"]


def test_delete_takes_many(waiting: Shell) -> None:
    waiting("cancel", "w1", "w2")
    assert "say --yes" in waiting("delete", "w1", "w2", code=6).err
    waiting("delete", "w1", "w2", "--yes")
    assert ids(waiting("ls").out) == ["h1", "w3"]
