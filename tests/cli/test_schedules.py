"""`holdfast schedule` in real processes: added, fired, looked at, steered, and every way to go wrong."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell, finish

SCHEDULE_KEYS = [
    "name", "agent", "version", "cron", "zone", "every_s", "after", "catch_up", "catch_up_most", "catch_up_window_s",
    "overlap", "jitter_s", "queue", "priority", "input", "paused", "held", "next_at", "fires", "missed", "skipped",
    "last", "created_at",
]  # fmt: skip
FIRE_KEYS = ["n", "due_at", "at", "cause", "status", "run", "source", "why"]


def test_a_schedule_is_added_fired_and_looked_at_by_other_processes(shell: Shell) -> None:
    added = shell(
        "schedule", "add", "s", "agents.py:hello", "--every", "1s", "--input", '{"name": "sea"}', "--json"
    )
    assert list(added.json) == SCHEDULE_KEYS
    assert (added.json["every_s"], added.json["input"]) == (1.0, {"name": "sea"})
    then = shell(
        "schedule", "add", "then", "agents.py:hello", "--after", "s", "--overlap", "allow", code=None
    )
    assert "for ever" not in then.err
    worker = shell.begin("worker", "agents.py")
    for _ in range(60):
        shown = shell("schedule", "show", "then", "--json").json
        fired = [fire for fire in shown["fires"] if fire["status"] == "fired"]
        if fired:
            break
    finish(worker, 15)
    assert list(shown) == ["schedule", "fires"]
    assert list(fired[0]) == FIRE_KEYS
    assert fired[0]["source"].startswith("s-2")
    run = shell("show", fired[0]["run"], "--json").json
    assert run["tags"] == {"schedule": "then"}
    listed = shell("schedule", "ls", "--json").json
    assert [list(one) for one in listed] == [SCHEDULE_KEYS, SCHEDULE_KEYS]
    assert listed[0]["last"]["cause"] == "time"
    table = shell("schedule", "ls").out
    assert "every 1.0s" in table
    assert "next when one succeeds" in table
    page = shell("schedule", "show", "then", "-n", "1").out
    assert "succeeded" in page
    assert "allow" in page


def test_a_schedule_is_steered(shell: Shell) -> None:
    add = ("schedule", "add", "s", "agents.py:hello", "--cron", "0 12 * * *", "--zone", "America/New_York")
    assert "cron 0 12 * * * (America/New_York); next 2" in shell(*add).out
    assert shell("schedule", "add", "s", "agents.py:hello", "--cron", "0 13 * * *", "--queue", "q", "--json").json[
        "queue"
    ] == "q"  # fmt: skip
    shell(*add)
    assert len(shell("schedule", "ls", "--json").json) == 1
    assert "paused; holdfast schedule resume s" in shell("schedule", "pause", "s").out
    assert shell("schedule", "show", "s", "--json").json["schedule"]["paused"] is True
    assert "paused" in shell("schedule", "ls").out
    assert "next 2" in shell("schedule", "resume", "s").out
    started = shell("schedule", "run-now", "s").out.strip()
    assert shell("show", started, "--json").json["state"] == "queued"
    assert shell("schedule", "run-now", "s", "--json").json["cause"] == "person"
    window = ("--since", "2026-01-02", "--until", "2026-01-03T12:00")
    assert shell("schedule", "backfill", "s", *window).out.split() == [
        "s-20260102T170000Z",
        "s-20260103T170000Z",
    ]
    again = shell("schedule", "backfill", "s", *window, "--json")
    assert again.json == []
    zoned = shell(
        "schedule", "backfill", "s", "--since", "2026-01-05T12:00-05:00", "--until", "2026-01-05T17:00Z"
    )
    assert zoned.out.split() == ["s-20260105T170000Z"]
    assert shell("schedule", "remove", "s", "--json").json == {"name": "s", "removed": True}
    shell("show", started)
    assert "no schedules here yet" in shell("schedule", "ls").err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "s", "agents.py:hello"), 2, "takes one of cron, every and after"),
        (("add", "s", "agents.py:hello", "--cron", "0 25 * * *"), 2, "'25' is no hour: 0-23, as in '2' or '8-18'"),
        (("add", "s", "agents.py:hello", "--cron", "@daily"), 2, "write '0 0 * * *'"),
        (
            ("add", "s", "agents.py:hello", "--cron", "0 2 * * *", "--zone", "Europe/Berln"), 2,
            "did you mean 'Europe/Berlin'?",
        ),
        (("add", "s", "agents.py:hello", "--every", "0.1s"), 2, "too often"),
        (("add", "s", "agents.py:hello", "--every", "1h", "--jitter", "2h"), 2, "jitter"),
        (("add", "s", "agents.py:hello", "--every", "1h", "--catch-up", "all"), 2, "overlap='queue'"),
        (("add", "s", "agents.py:hello", "--every", "1h", "--input", '{"nam": "x"}'), 2, "did you mean 'name'?"),
        (("add", "s", "agents.py:hello", "--after", "s"), 6, "for ever: s → s"),
        (("add", "a b", "agents.py:hello", "--every", "1h"), 2, "is no name for a schedule"),
        (("show", "nightl"), 5, "did you mean 'nightly'?"),
        (("pause", "zzz"), 5, "`holdfast schedule ls` lists them"),
        (("backfill", "nightly", "--since", "yesterday"), 2, "write 2026-11-01"),
        (("backfill", "nightly", "--since", "2000-01-01"), 6, "in parts"),
        (("pausse", "nightly"), 2, "did you mean 'pause'?"),
    ],
)  # fmt: skip
def test_what_goes_wrong_says_what_and_the_way_out(
    shell: Shell, arguments: tuple[str, ...], code: int, said: str
) -> None:
    shell("schedule", "add", "nightly", "agents.py:hello", "--cron", "0 2 * * *")
    assert said in shell("schedule", *arguments, code=code).err
    assert [one["name"] for one in shell("schedule", "ls", "--json").json] == ["nightly"]
