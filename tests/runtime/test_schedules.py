"""Schedules through the public API: what can be asked for, and controllers and workers that do it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import apsw
import pytest

from holdfast import Client, Context, Controller, Schedule, agent, zones
from holdfast.errors import InvalidInput, Refused, ScheduleNotFound, StoreUnavailable, UsageError
from holdfast.model import After, CatchUp, CatchUpKind, Cron, Fired, Interval, Overlap, RunState
from holdfast.worker import Worker
from tests.faults import Engine


@dataclass
class Source:
    url: str
    depth: int = 1


@agent
async def collect(ctx: Context, source: Source, note: str = "") -> str:
    return source.url


@agent(version="3", queue="slow", deadline="2h")
async def tidy(ctx: Context) -> str:
    return "tidy"


@agent
async def publish(ctx: Context) -> str:
    return "published"


# --- what can be asked for ----------------------------------------------------------------------------------


def test_a_schedule_says_what_the_store_is_asked_for() -> None:
    asked = Schedule("s", collect, [Source("x")], cron="30  2 * * *", zone="Europe/Berlin").asked()
    assert (asked.agent, asked.version, asked.trigger) == (
        "collect",
        "0",
        Cron(expression="30 2 * * *", zone="Europe/Berlin"),
    )
    assert asked.input == b'{"note":"","source":{"depth":1,"url":"x"}}'
    asked = Schedule(
        "s",
        tidy,
        every="15m",
        overlap="queue",
        catch_up="all",
        catch_up_most=5,
        catch_up_window="6h",
        jitter="1m",
    ).asked()
    assert asked.trigger == Interval(every_us=900_000_000)
    assert asked.catch_up == CatchUp(kind=CatchUpKind.ALL, most=5, window_us=21_600_000_000)
    assert (asked.overlap, asked.jitter_us) == (Overlap.QUEUE, 60_000_000)
    assert (asked.queue, asked.deadline_us, asked.version) == ("slow", 7_200_000_000, "3")
    assert Schedule("s", tidy, after="collect", queue="q").asked().trigger == After(name="collect")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "takes one of cron, every and after, and got none of them"),
        ({"cron": "* * * * *", "every": 60}, "got cron and every"),
        ({"cron": "* 25 * * *"}, "'25' is no hour: 0-23"),
        ({"cron": "* * * * *", "zone": "Berlin"}, "did you mean 'Europe/Berlin'?"),
        ({"cron": "* * * * *", "zone": "Europe/Belrin"}, "did you mean 'Europe/Berlin'?"),
        ({"cron": "* * * * *", "zone": "../etc/passwd"}, "no time zone is called"),
        ({"cron": "* * * * *", "zone": "Qwxz"}, "they are named as in 'Europe/Berlin'"),
        ({"every": 0.2}, "too often"),
        ({"every": "soon"}, "is not a duration"),
        ({"every": 60, "catch_up": "some"}, "catch_up is one of skip, last, all, not 'some'"),
        ({"every": 60, "overlap": "wait"}, "overlap is one of skip, queue, cancel, allow, not 'wait'"),
        ({"every": 60, "catch_up": "all"}, "use overlap='queue'"),
        ({"every": 60, "catch_up": "all", "overlap": "cancel"}, "use overlap='queue'"),
        ({"every": 60, "catch_up_most": 0}, "catch_up_most is 1 to 1000, not 0"),
        ({"every": 60, "priority": 5000}, "priority 5000 is out of bounds"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        Schedule("s", tidy, **options)
    assert said in str(told.value)


def test_names_agents_and_arguments_are_checked() -> None:
    with pytest.raises(UsageError, match="is no name for a schedule"):
        Schedule("a b", tidy, every=60)
    with pytest.raises(UsageError, match="is no agent"):
        Schedule("s", print, every=60)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        Schedule("s", collect, every=60)


def test_a_machine_without_time_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    with pytest.raises(UsageError, match="install its tzdata"):
        zones.zone("Mars/Olympus")


# --- steering through the client ----------------------------------------------------------------------------


async def test_a_schedule_is_looked_at_paused_resumed_and_removed(engine: Engine) -> None:
    schedules = engine.client.schedules
    added = await schedules.add(Schedule("s", tidy, cron="0 0 1 1 *"))
    assert added.next_at is not None
    assert (added.next_at.month, added.cron, added.zone, added.every_s, added.after) == (
        1, "0 0 1 1 *", "UTC", None, None,
    )  # fmt: skip
    assert await schedules.all() == [added] == [await schedules.get("s")]
    assert (await schedules.pause("s")).paused
    assert not (await schedules.resume("s")).paused
    fire = await schedules.run_now("s")
    assert (fire.cause, fire.status) == ("person", "fired")
    assert fire.run is not None
    assert await schedules.fires("s") == [fire]
    assert (await schedules.get("s")).last == fire
    assert await schedules.fire_of(fire.run) == ("s", fire)
    assert await schedules.fire_of("other") is None
    assert (await (await engine.client.get(fire.run)).status()).version == "3"
    await schedules.remove("s")
    with pytest.raises(ScheduleNotFound):
        await schedules.get("s")


async def test_a_jitter_longer_than_the_interval_is_refused(engine: Engine) -> None:
    with pytest.raises(UsageError, match="jitter"):
        await engine.client.schedules.add(Schedule("s", tidy, every="1h", jitter="2h"))
    added = await engine.client.schedules.add(Schedule("s", tidy, every="1h", jitter="59m"))
    assert added.jitter_s == 3540


async def test_schedules_that_would_start_each_other_for_ever_are_refused(engine: Engine) -> None:
    await engine.client.schedules.add(Schedule("a", tidy, after="publish"))
    with pytest.raises(Refused, match="a → b → a"):
        await engine.client.schedules.add(Schedule("b", publish, after="tidy"))


async def test_a_backfill_takes_times_with_a_zone(engine: Engine) -> None:
    schedules = engine.client.schedules
    await schedules.add(Schedule("s", tidy, cron="0 12 * * *", overlap="allow"))
    with pytest.raises(UsageError, match="no time zone"):
        await schedules.backfill("s", datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    window = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, 12, tzinfo=UTC)
    filled = await schedules.backfill("s", *window)
    assert [fire.run for fire in filled] == [f"s-2026010{n}T120000Z" for n in (1, 2, 3)]
    assert await schedules.backfill("s", *window) == []
    with pytest.raises(Refused, match="in parts"):
        await schedules.backfill("s", datetime(2000, 1, 1, tzinfo=UTC))


async def test_a_zone_that_this_machine_lost_holds_the_schedule_and_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules = engine.client.schedules
    await schedules.add(Schedule("there", tidy, every=1))
    await schedules.add(Schedule("lost", publish, cron="* * * * * *", zone="Europe/Berlin"))
    await engine.store.resume_schedule("lost")

    def gone(name: str) -> Any:
        raise UsageError(f"no time zone is called {name!r}")

    monkeypatch.setattr("holdfast.store.transactions.schedules.zone", gone)
    controller = asyncio.create_task(Controller(engine.store).run())
    await fired(engine, "there", 2)  # the other one was due meanwhile
    controller.cancel()
    await asyncio.wait({controller})
    lost = await schedules.get("lost")
    assert lost.held == "no time zone is called 'Europe/Berlin'; then: holdfast schedule resume lost"
    monkeypatch.undo()
    assert (await schedules.resume("lost")).held is None


async def test_a_schedule_that_cannot_be_met_is_held_whole_and_keeps_no_other_waiting(engine: Engine) -> None:
    schedules = engine.client.schedules
    await schedules.add(Schedule("bad", tidy, cron="* * * * * *"))
    await schedules.add(Schedule("good", tidy, every=1))
    database = apsw.Connection(engine.url.removeprefix("sqlite:///"))
    # Its row says that it fired less often than it did: its next fire has a number that is taken.
    database.execute(
        "INSERT INTO schedule_fires (schedule, n, mark, due_us, cause, status, at_us) VALUES ('bad', 1, 'x', 0, 'time',"
        " 'skipped', 0)"
    )
    database.close()
    controller = asyncio.create_task(Controller(engine.store).run())
    await fired(engine, "good", 2)
    controller.cancel()
    await asyncio.wait({controller})
    bad = await schedules.get("bad")
    assert (bad.paused, bad.fires) == (True, 0)
    assert "UNIQUE" in str(bad.held)
    assert [one for one in await engine.client.runs() if one.id.startswith("bad")] == []


# --- controllers and workers --------------------------------------------------------------------------------


async def fired(engine: Engine, name: str, count: int) -> None:
    """Wait for so many fires."""
    while (await engine.client.schedules.get(name)).fires < count:
        await engine.store.wait_for_news(0.2)


async def test_a_controller_fires_and_a_worker_executes_and_the_next_follows(engine: Engine) -> None:
    schedules = engine.client.schedules
    await schedules.add(Schedule("first", tidy, every=1, overlap="allow"))
    await schedules.add(Schedule("second", publish, after="first", overlap="allow"))
    controller = asyncio.create_task(Controller(engine.store).run())
    async with Worker(engine.store, [tidy, publish]):
        await fired(engine, "second", 3)  # a fire may wait a moment for a controller: the newest is left out
        fires = await schedules.fires("second")
        for fire in fires[-2:]:
            assert fire.run is not None
            assert await (await engine.client.get(fire.run)).result() == "published"
    controller.cancel()
    await asyncio.wait({controller})
    firsts = {one.run for one in await schedules.fires("first", limit=100)}
    assert {fire.source for fire in fires} <= firsts


async def test_a_due_second_is_met_at_once(engine: Engine) -> None:
    schedules = engine.client.schedules
    await schedules.add(Schedule("s", tidy, every=1, overlap="allow"))
    controller = asyncio.create_task(Controller(engine.store).run())
    await fired(engine, "s", 4)
    controller.cancel()
    await asyncio.wait({controller})
    late = sorted(fire.at - fire.due_at for fire in await schedules.fires("s"))
    assert late[0] < timedelta(seconds=0.15)  # the quickest of four: other processes share this machine


class Away:
    """A store that does not answer."""

    async def fire_schedules(self, limit: int) -> Fired:
        raise StoreUnavailable("away")


async def test_a_controller_outlives_a_store_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    rest_s = await Controller(Away(), chance=lambda: 0.5).fire()  # type: ignore[arg-type]
    assert rest_s == 1.25
    assert "could not fire schedules" in caplog.text


async def test_a_run_of_a_version_that_is_gone_waits_for_its_code(engine: Engine) -> None:
    await engine.client.schedules.add(Schedule("s", replace(tidy, version="old"), every="1h"))
    fire = await engine.client.schedules.run_now("s")
    assert fire.run is not None
    async with Worker(engine.store, [tidy]):
        while (await (await Client(engine.store).get(fire.run)).status()).state is not RunState.WAITING:
            await engine.sweep()
        await engine.client.schedules.add(Schedule("s", tidy, every="1h"))
        again = await engine.client.schedules.run_now("s")
        assert again.run is not None
        assert await (await engine.client.get(again.run)).result() == "tidy"
