"""What becomes of fires: catch-up, overlap, pauses, clock jumps, backfill. Times are seconds from a round instant."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from holdfast.errors import Refused, UsageError
from holdfast.model import (
    After,
    CatchUp,
    CatchUpKind,
    Cron,
    Fire,
    FireCause,
    FireStatus,
    Interval,
    NewSchedule,
    Overlap,
    ScheduleRecord,
    Trigger,
)
from holdfast.rules import firing, timing
from tests.rules.runs import a_run

S = timing.SECOND_US
T0 = 1_800_000_000 * S
FIRED, QUEUED, SKIPPED, MISSED = FireStatus.FIRED, FireStatus.QUEUED, FireStatus.SKIPPED, FireStatus.MISSED
EVERY_TEN = Interval(every_us=10 * S, anchor_us=T0)
SKIP, LAST, ALL = CatchUpKind.SKIP, CatchUpKind.LAST, CatchUpKind.ALL


def new(
    trigger: Trigger = EVERY_TEN, *, catch_up: CatchUp | CatchUpKind = LAST, overlap: Overlap = Overlap.SKIP,
    jitter_s: int = 0, name: str = "s", agent: str = "a",
) -> NewSchedule:  # fmt: skip
    policy = catch_up if isinstance(catch_up, CatchUp) else CatchUp(kind=catch_up)
    return NewSchedule(
        name=name, agent=agent, version="0", input=b"{}", trigger=trigger, catch_up=policy, overlap=overlap,
        jitter_us=jitter_s * S,
    )  # fmt: skip


def begun(wanted: NewSchedule | None = None, at_s: int = 0) -> ScheduleRecord:
    return firing.begin(wanted or new(), UTC, T0 + at_s * S, None)


def look(
    schedule: ScheduleRecord, at_s: float, *, waiting: Sequence[Fire] = (), active: Sequence[str] = ()
) -> firing.Firing:
    return firing.decide(schedule, UTC, T0 + round(at_s * S), waiting=waiting, active=active)


def told(decided: firing.Firing) -> list[tuple[float, str]]:
    """Due times in seconds with what became of them."""
    return [((fire.due_us - T0) / S, str(fire.status)) for fire in decided.fires]


def arrival(key: int, at_s: int = 0, *, held: bool = False, n: int = 1) -> Fire:
    schedule = replace(begun(new(After(name="a"))), paused=held)
    return replace(firing.after(schedule, a_run(key=key, id=f"r{key}"), T0 + at_s * S), n=n)


# --- due times ----------------------------------------------------------------------------------------------


def test_a_schedule_is_due_one_interval_after_it_began() -> None:
    schedule = begun()
    assert (schedule.next_due_us, schedule.wake_us) == (T0 + 10 * S, T0 + 10 * S)
    assert look(schedule, 9.9).fires == ()


def test_a_due_time_becomes_a_run_with_an_id_made_of_it() -> None:
    decided = look(begun(), 10.01)
    (fire,) = decided.fires
    assert (fire.status, fire.mark, fire.run) == (FIRED, str(T0 + 10 * S), f"s-{timing.stamp(T0 + 10 * S)}")
    assert decided.schedule.next_due_us == decided.schedule.wake_us == T0 + 20 * S
    assert (decided.schedule.last_due_us, decided.schedule.fires) == (T0 + 10 * S, 1)


def test_a_look_again_at_the_same_time_fires_nothing_more() -> None:
    assert look(look(begun(), 10.01).schedule, 10.01).fires == ()


def test_a_clock_set_back_meets_no_time_twice() -> None:
    schedule = look(begun(), 35).schedule
    for at_s in (5, 10, 20, 30, 39):
        assert look(schedule, at_s).fires == ()
    assert told(look(schedule, 40)) == [(40, "fired")]


def test_a_clock_jumping_over_due_times_catches_up_as_the_policy_says() -> None:
    assert told(look(begun(), 3600.5))[-1] == (3600, "fired")
    jumped = look(begun(new(Interval(every_us=600 * S, anchor_us=T0), catch_up=SKIP)), 900)
    assert told(jumped) == [(600, "missed")]


@pytest.mark.parametrize(
    ("day", "due"),
    [
        ("2026-07-10", "2026-07-10T02:30"),
        ("2026-03-29", "2026-03-29T03:00"),
        ("2026-10-25", "2026-10-25T02:30"),
    ],
    ids=["an ordinary night", "a night without 02:30", "a night with two of them"],
)
@pytest.mark.parametrize(("kind", "status"), [(LAST, "fired"), (ALL, "fired"), (SKIP, "missed")])
def test_a_clock_jumping_over_a_cron_time_meets_it_once(
    day: str, due: str, kind: CatchUpKind, status: str
) -> None:
    berlin = ZoneInfo("Europe/Berlin")

    def us(moment: str) -> int:
        return round(datetime.fromisoformat(moment).replace(tzinfo=berlin).timestamp() * 1e6)

    wanted = new(Cron(expression="30 2 * * *", zone="Europe/Berlin"), catch_up=kind, overlap=Overlap.ALLOW)
    schedule = firing.begin(wanted, berlin, us(f"{day}T00:00"), None)
    for moment in ("01:59:59", "06:00:00"):  # set forward by four hours
        decided = firing.decide(schedule, berlin, us(f"{day}T{moment}"), waiting=(), active=())
        schedule = decided.schedule
    assert [(fire.due_us, str(fire.status)) for fire in decided.fires] == [(us(due), status)]
    for moment in (
        "00:30:00",
        "02:30:00",
        "03:00:00",
        "23:59:59",
    ):  # and back, and through the night once more
        decided = firing.decide(schedule, berlin, us(f"{day}T{moment}"), waiting=(), active=())
        schedule = decided.schedule
        assert decided.fires == ()
    assert schedule.next_due_us == us(
        (datetime.fromisoformat(day) + timedelta(days=1, hours=2.5)).isoformat()
    )


@given(st.lists(st.integers(-500, 900), max_size=12), st.sampled_from([SKIP, LAST, ALL]))
def test_whatever_the_clock_does_no_mark_comes_twice_and_none_is_dropped(
    moves: list[int], kind: CatchUpKind
) -> None:
    schedule, at_s = begun(new(catch_up=kind, overlap=Overlap.ALLOW)), 0
    marks: list[str] = []
    for move in moves:
        at_s = max(0, at_s + move)
        decided = look(schedule, at_s)
        schedule = decided.schedule
        marks += [fire.mark for fire in decided.fires]
    assert len(marks) == len(set(marks))
    # up to what one look tells one by one, every due time is there
    assert schedule.next_due_us is not None
    passed = (schedule.next_due_us - T0) // (10 * S) - 1
    assert len(marks) <= passed
    if kind is ALL:
        assert len(marks) == passed


# --- jitter -------------------------------------------------------------------------------------------------


def test_a_fire_waits_for_its_jitter_which_changes_no_due_time() -> None:
    schedule = begun(new(jitter_s=9))
    jitter_us = timing.jitter_us("s", T0 + 10 * S, 9 * S)
    assert schedule.wake_us == T0 + 10 * S + jitter_us
    assert look(schedule, 10 + jitter_us / S - 0.001).fires == ()
    decided = look(schedule, 10 + jitter_us / S)
    assert told(decided) == [(10, "fired")]
    assert decided.schedule.next_due_us == T0 + 20 * S


def test_a_look_that_comes_late_leaves_a_jitter_that_is_not_over() -> None:
    schedule = begun(new(jitter_s=9))
    assert timing.jitter_us("s", T0 + 30 * S, 9 * S) > S
    decided = look(schedule, 30.5)
    assert told(decided) == [(10, "missed"), (20, "fired")]
    assert decided.schedule.next_due_us == T0 + 30 * S


def test_a_time_that_the_zone_no_longer_has_is_met_all_the_same() -> None:
    schedule = replace(begun(new(Cron(expression="0 0 1 1 *"))), next_due_us=T0, wake_us=T0)
    decided = look(schedule, 5)
    assert told(decided) == [(0, "fired")]
    assert decided.schedule.next_due_us == timing.next_due(Cron(expression="0 0 1 1 *"), UTC, T0)


def test_a_schedule_without_more_times_sleeps_for_ever() -> None:
    schedule = replace(begun(), next_due_us=timing.LATEST_US - 5 * S, wake_us=timing.LATEST_US - 5 * S)
    decided = firing.decide(schedule, UTC, timing.LATEST_US, waiting=(), active=())
    assert decided.schedule.next_due_us is decided.schedule.wake_us is None
    assert firing.decide(decided.schedule, UTC, timing.LATEST_US * 2, waiting=(), active=()).fires == ()


# --- catch-up -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "at_s", "expected"),
    [
        # what is a minute late at most is on time, whatever the policy: a controller may start again
        (SKIP, 70, [(n, "missed") for n in (10, 20, 30, 40, 50, 60)] + [(70, "fired")]),
        (LAST, 35, [(10, "missed"), (20, "missed"), (30, "fired")]),
        (ALL, 35, [(10, "fired"), (20, "fired"), (30, "fired")]),
    ],
)
def test_catch_up_of_what_nobody_was_there_for(
    kind: CatchUpKind, at_s: int, expected: list[tuple[float, str]]
) -> None:
    assert told(look(begun(new(catch_up=kind, overlap=Overlap.ALLOW)), at_s)) == expected


@pytest.mark.parametrize(("late_s", "status"), [(60, "fired"), (61, "missed")])
def test_skip_is_on_time_for_a_minute(late_s: int, status: str) -> None:
    hourly = Interval(every_us=3600 * S, anchor_us=T0)
    assert told(look(begun(new(hourly, catch_up=SKIP)), 3600 + late_s)) == [(3600, status)]


def test_all_is_bounded_by_its_number_and_its_window() -> None:
    most = CatchUp(kind=ALL, most=2, window_us=3600 * S)
    decided = look(begun(new(catch_up=most, overlap=Overlap.ALLOW)), 45)
    assert told(decided) == [(10, "missed"), (20, "missed"), (30, "fired"), (40, "fired")]
    window = CatchUp(kind=ALL, most=100, window_us=15 * S)
    decided = look(begun(new(catch_up=window, overlap=Overlap.ALLOW)), 45)
    assert told(decided) == [(10, "missed"), (20, "missed"), (30, "fired"), (40, "fired")]
    assert decided.schedule.missed == 2
    short = CatchUp(kind=ALL, most=100, window_us=1 * S)
    assert told(look(begun(new(catch_up=short)), 25))[-1] == (20, "fired")  # on time, so no window asks


def test_a_long_absence_is_told_in_a_few_fires_that_say_so() -> None:
    decided = look(begun(), 10 * 86_400)
    missed = [fire for fire in decided.fires if fire.status is MISSED]
    assert len(missed) == firing.MISSED_TOLD
    assert f"since {timing.stamp(T0 + 10 * S)}" in str(missed[0].why)
    assert "since" not in str(missed[1].why)
    assert decided.schedule.next_due_us == T0 + (10 * 86_400 + 10) * S
    assert decided.schedule.missed == firing.MISSED_TOLD


# --- overlap ------------------------------------------------------------------------------------------------


def test_skip_says_whose_run_was_in_the_way() -> None:
    decided = look(begun(), 10, active=["s-1"])
    assert told(decided) == [(10, "skipped")]
    assert decided.fires[0].run is None
    assert "run s-1 was unfinished" in str(decided.fires[0].why)
    assert decided.schedule.skipped == 1


def test_allow_fires_beside_whatever_runs() -> None:
    assert told(look(begun(new(overlap=Overlap.ALLOW)), 10, active=["s-1"])) == [(10, "fired")]


def test_cancel_ends_what_runs_and_fires() -> None:
    decided = look(begun(new(overlap=Overlap.CANCEL)), 10, active=["s-1", "s-2"])
    assert told(decided) == [(10, "fired")]
    assert decided.cancel == ("s-1", "s-2")


def test_cancel_never_starts_what_it_would_cancel_at_once() -> None:
    schedule = begun(new(After(name="a"), overlap=Overlap.CANCEL))
    arrivals = [arrival(1, n=1), arrival(2, n=2)]
    decided = look(schedule, 10, waiting=arrivals)
    assert [(fire.source, fire.status) for fire in decided.fires] == [("r1", SKIPPED), ("r2", FIRED)]
    assert decided.cancel == ()
    decided = look(schedule, 10, waiting=arrivals, active=["s-0"])
    assert [(fire.source, fire.status) for fire in decided.fires] == [("r1", SKIPPED), ("r2", FIRED)]
    assert decided.cancel == ("s-0",)
    three = look(schedule, 10, waiting=[*arrivals, arrival(3, n=3)])
    assert [fire.status for fire in three.fires] == [SKIPPED, SKIPPED, FIRED]


def test_queue_waits_for_the_run_before_and_then_goes_in_turn() -> None:
    schedule = begun(new(overlap=Overlap.QUEUE))
    first = look(schedule, 10, active=["s-1"])
    assert told(first) == [(10, "queued")]
    assert first.fires[0].run is not None
    assert "waits for run s-1" in str(first.fires[0].why)
    waiting = replace(first.fires[0], n=1)
    assert look(first.schedule, 15, waiting=[waiting], active=["s-1"]).fires == ()  # it waits on
    gone = look(first.schedule, 20, waiting=[waiting])
    assert told(gone) == [(10, "fired"), (20, "queued")]
    assert (gone.fires[0].n, gone.fires[1].n) == (1, 0)
    assert gone.schedule.fires == 2


def test_a_queue_has_an_end() -> None:
    schedule = begun(new(overlap=Overlap.QUEUE))
    waiting = [arrival(key, n=key) for key in range(1, firing.MOST_QUEUED + 1)]
    decided = look(schedule, 10, waiting=[replace(one, why="w") for one in waiting], active=["s-1"])
    assert told(decided) == [(10, "skipped")]
    assert "100 fires wait" in str(decided.fires[0].why)


# --- after another run --------------------------------------------------------------------------------------


def test_each_success_is_a_fire_however_late_it_is_looked_at() -> None:
    schedule = begun(new(After(name="a"), catch_up=SKIP, overlap=Overlap.ALLOW))
    decided = look(schedule, 9_000, waiting=[arrival(1), arrival(2, n=2)])
    assert [(fire.mark, fire.run, fire.status) for fire in decided.fires] == [
        ("run 1", "s-after-1", FIRED),
        ("run 2", "s-after-2", FIRED),
    ]
    assert decided.schedule.wake_us is None


def test_two_successes_at_once_obey_the_overlap() -> None:
    schedule = begun(new(After(name="a")))
    decided = look(schedule, 1, waiting=[arrival(1), arrival(2, n=2)])
    assert [fire.status for fire in decided.fires] == [FIRED, SKIPPED]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        (CatchUp(kind=SKIP), [MISSED, MISSED, MISSED]),
        (CatchUp(kind=LAST), [MISSED, MISSED, FIRED]),
        (CatchUp(kind=ALL), [FIRED, FIRED, FIRED]),
        (CatchUp(kind=ALL, most=2), [MISSED, FIRED, FIRED]),
        (CatchUp(kind=ALL, window_us=85 * S), [MISSED, FIRED, FIRED]),
    ],
)
def test_successes_during_a_pause_are_made_up_for_as_the_policy_says(
    catch_up: CatchUp, expected: list[FireStatus]
) -> None:
    schedule = begun(new(After(name="a"), catch_up=catch_up, overlap=Overlap.ALLOW))
    held = [arrival(n, 10 * n, held=True, n=n) for n in (1, 2, 3)]
    decided = look(schedule, 100, waiting=held)
    assert [fire.status for fire in sorted(decided.fires, key=lambda fire: fire.n)] == expected


# --- adding again, pausing ----------------------------------------------------------------------------------


def test_added_again_it_goes_on_where_it_was() -> None:
    schedule = look(begun(), 10).schedule
    again = firing.begin(
        replace(new(), input=b'{"n":1}', trigger=Interval(every_us=10 * S)), UTC, T0 + 13 * S, schedule
    )
    assert (again.next_due_us, again.new.input, again.fires) == (T0 + 20 * S, b'{"n":1}', 1)
    assert again.new.trigger == EVERY_TEN


def test_another_trigger_begins_now_and_at_no_time_met_already() -> None:
    schedule = replace(look(begun(), 10).schedule, last_due_us=T0 + 100 * S)
    again = firing.begin(new(Cron(expression="* * * * * *")), UTC, T0 + 13 * S, schedule)
    assert again.next_due_us == T0 + 101 * S
    assert firing.begin(new(After(name="x")), UTC, T0, schedule).next_due_us is None
    untouched = firing.begin(new(Interval(every_us=7 * S)), UTC, T0 + 13 * S, begun())
    assert untouched.next_due_us == T0 + 20 * S


def test_an_interval_begins_at_a_whole_second_and_is_a_second_at_least() -> None:
    schedule = firing.begin(new(Interval(every_us=5 * S)), UTC, T0 + 300_000, None)
    assert schedule.next_due_us == T0 + 5 * S
    with pytest.raises(UsageError, match="too often"):
        firing.begin(new(Interval(every_us=5)), UTC, T0, None)


def test_a_pause_keeps_the_next_time_and_a_resume_catches_up() -> None:
    paused = firing.pause(begun())
    assert (paused.paused, paused.next_due_us) == (True, T0 + 10 * S)
    assert firing.pause(paused) == paused
    resumed = firing.resume(paused, T0 + 35 * S)
    assert (resumed.paused, resumed.wake_us) == (False, T0 + 35 * S)
    assert firing.resume(resumed, T0 + 40 * S) == resumed
    assert told(look(resumed, 35)) == [(10, "missed"), (20, "missed"), (30, "fired")]


def test_a_person_s_pause_stays_when_it_is_added_again_and_a_hold_ends() -> None:
    assert firing.begin(new(), UTC, T0, firing.pause(begun())).paused
    held = firing.hold(begun(), "no time zone is called 'X'")
    assert (held.paused, held.held) == (True, "no time zone is called 'X'")
    again = firing.begin(new(), UTC, T0 + 5 * S, held)
    assert (again.paused, again.held) == (False, None)
    assert firing.resume(held, T0).held is None


# --- run-now and backfill -----------------------------------------------------------------------------------


def test_a_run_now_is_a_fire_of_its_own() -> None:
    fire = firing.run_now(begun(), T0 + 1)
    assert (fire.status, fire.cause, fire.run) == (FIRED, FireCause.PERSON, f"s-now-{timing.stamp(T0 + 1)}")


def fill(schedule: ScheduleRecord, since_s: int, until_s: int, *known: Fire) -> list[tuple[float, int]]:
    fires = firing.backfill(
        schedule, UTC, T0 + since_s * S, T0 + until_s * S, {fire.mark: fire for fire in known}
    )
    assert all(fire.status is QUEUED and fire.cause is FireCause.BACKFILL for fire in fires)
    return [((fire.due_us - T0) / S, fire.n) for fire in fires]


def test_a_backfill_has_the_ids_of_the_times_it_fills() -> None:
    schedule = begun(at_s=100)
    (fire, _) = firing.backfill(schedule, UTC, T0 + 90 * S, T0 + 105 * S, {})
    assert (fire.mark, fire.run) == (str(T0 + 90 * S), f"s-{timing.stamp(T0 + 90 * S)}")


def test_a_backfill_reaches_back_before_the_schedule_and_leaves_its_future_alone() -> None:
    schedule = begun(at_s=100)
    assert [due for due, _ in fill(schedule, 70, 500)] == [70, 80, 90, 100]
    assert fill(schedule, 111, 500) == []
    yearly = begun(new(Cron(expression="0 0 1 1 *")))
    assert fill(yearly, -40_000_000, 0) != []
    assert fill(replace(schedule, next_due_us=None), 95, 112) == [(100, 0), (110, 0)]


def test_a_backfill_fills_what_was_missed_or_skipped_and_nothing_else() -> None:
    fires = look(begun(), 35).fires  # 10 and 20 missed, 30 fired
    known = [replace(fire, n=n) for n, fire in enumerate(fires, 1)]
    schedule = look(begun(), 35).schedule
    assert fill(schedule, 0, 35, *known) == [(0, 0), (10, 1), (20, 2)]
    queued = [replace(fire, status=QUEUED) for fire in known]
    assert fill(schedule, 5, 35, *queued) == []


def test_a_backfill_of_too_much_or_of_no_times_is_refused() -> None:
    schedule = replace(begun(), next_due_us=None)
    with pytest.raises(Refused, match="more than 1000 times"):
        fill(schedule, 0, 20_000)
    with pytest.raises(Refused, match="has no times to fill in"):
        fill(begun(new(After(name="a"))), 0, 20)


@pytest.mark.parametrize("overlap", list(Overlap))
def test_what_was_asked_for_is_never_skipped(overlap: Overlap) -> None:
    schedule = begun(new(overlap=overlap))
    waiting = [
        replace(fire, n=n) for n, fire in enumerate(firing.backfill(schedule, UTC, T0 - 20 * S, T0, {}), 1)
    ]
    busy = look(schedule, 1, waiting=waiting, active=["s-1"])
    assert {fire.status for fire in busy.fires} == {FIRED if overlap is Overlap.ALLOW else QUEUED}
    assert busy.cancel == ()
    free = look(schedule, 1, waiting=waiting)
    assert free.fires[0].status is FIRED
    assert all(fire.status in (FIRED, QUEUED) for fire in free.fires)


def test_a_time_that_is_due_goes_before_what_is_filled_in() -> None:
    schedule = begun()
    waiting = [replace(fire, n=n) for n, fire in enumerate(firing.backfill(schedule, UTC, T0, T0, {}), 1)]
    assert told(look(schedule, 10, waiting=waiting)) == [(10, "fired"), (0, "queued")]


# --- circles ------------------------------------------------------------------------------------------------


def chain(*links: tuple[str, str, str]) -> list[str] | None:
    """Schedules as (name, agent, what it comes after)."""
    return firing.circle(
        new(After(name=after) if after else EVERY_TEN, name=name, agent=agent) for name, agent, after in links
    )


def test_schedules_that_start_each_other_for_ever_are_found() -> None:
    assert chain(("a", "x", "a")) == ["a", "a"]
    assert chain(("a", "x", "x")) == ["a", "a"]
    assert chain(("a", "x", "c"), ("b", "y", "a"), ("c", "z", "y")) == ["a", "b", "c", "a"]
    assert chain(("go", "g", ""), ("a", "x", "go"), ("b", "y", "a"), ("c", "z", "a"), ("d", "w", "c")) is None
    assert chain(("a", "x", ""), ("b", "y", "a"), ("c", "y", "a"), ("d", "w", "y")) is None
    assert chain(("a", "x", ""), ("b", "y", "a"), ("c", "z", "b"), ("d", "w", "b"), ("e", "v", "c")) is None


def test_cron_is_looked_at_in_its_zone() -> None:
    berlin = Cron(expression="30 2 * * *", zone="Europe/Berlin")
    schedule = firing.begin(new(berlin), ZoneInfo("Europe/Berlin"), T0, None)
    assert schedule.next_due_us == timing.next_due(berlin, ZoneInfo("Europe/Berlin"), T0)
