"""Promises about schedules: each due time is met once, whoever looks, and one fire is one transaction."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from msgspec.structs import replace

from holdfast.errors import PayloadTooLarge, Refused, ScheduleNotFound, UsageError
from holdfast.model import (
    After,
    CatchUp,
    CatchUpKind,
    Cron,
    Fire,
    FireCause,
    FireStatus,
    Interval,
    Lane,
    NewSchedule,
    Overlap,
    Reason,
    RunFilter,
    RunState,
    Succeeded,
    Trigger,
)
from holdfast.rules import transitions
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import (
    AGENT,
    SECOND_US,
    SERVES,
    VERSION,
    Attempt,
    Place,
    Promises,
    new_run,
    register,
    take_any,
)

TEN_S = 10 * SECOND_US
EVERY_TEN = Interval(every_us=TEN_S)


def schedule(
    name: str = "s",
    trigger: Trigger = EVERY_TEN,
    *,
    overlap: Overlap = Overlap.SKIP,
    catch_up: CatchUpKind = CatchUpKind.LAST,
) -> NewSchedule:
    """A schedule as asked for."""
    return NewSchedule(
        name=name,
        agent=AGENT,
        version=VERSION,
        input=b'{"n":1}',
        trigger=trigger,
        overlap=overlap,
        catch_up=CatchUp(kind=catch_up),
        queue="q",
        priority=3,
    )


async def fire(store: Store) -> int:
    """Look until nothing is due; how many schedules were fired."""
    fired = 0
    while (looked := (await store.fire_schedules(100)).schedules) > 0:
        fired += looked
    return fired


async def told(store: Store, name: str = "s") -> list[str]:
    """The statuses of the fires, oldest first."""
    return [str(one.status) for one in reversed(await store.list_fires(name, 1_000))]


async def run_ids(store: Store) -> list[str]:
    """The runs, oldest first."""
    return [run.id for run in reversed(await store.list_runs(RunFilter(limit=10_000)))]


async def newest(store: Store, name: str = "s") -> Fire:
    """The newest fire."""
    return (await store.list_fires(name, 1))[0]


async def succeed(store: Store, worker: int, run_id: str) -> None:
    """Execute a run to its end."""
    (claim,) = await store.claim(worker, SERVES, 1, only=run_id)
    await Attempt(store, claim).settle(Succeeded(result=b"1"))


async def _one_after_the_other(store: Store, worker: int, running: Attempt | None) -> list[str]:
    """End what runs, and whatever is called next, until nothing is left; what ran, in order. Never two at once."""
    order: list[str] = []
    while True:
        if running is not None and (await store.get_run(running.run.id)).state is RunState.RUNNING:
            await running.settle(Succeeded(result=b"1"))
        await fire(store)
        claimed = await take_any(store, worker, 100)
        if not claimed:
            return order
        (running,) = claimed
        order.append(running.run.id)


class SchedulePromises(Promises):
    """What the store promises about schedules."""

    # --- keeping them ---------------------------------------------------------------------------------------

    async def test_a_schedule_is_kept_as_it_was_added(self, store: Store, place: Place) -> None:
        for trigger in (Cron(expression="30 2 * * *", zone="Europe/Berlin"), After(name="x")):
            new = schedule(trigger=trigger, overlap=Overlap.QUEUE, catch_up=CatchUpKind.ALL)
            added = await store.put_schedule(new)
            assert added == await (await place.open()).get_schedule("s")
            assert added.new == new
            assert await store.list_schedules() == [added]

    async def test_adding_it_again_changes_it_and_keeps_where_it_stands(
        self, store: Store, place: Place
    ) -> None:
        await store.put_schedule(schedule())
        place.clock.advance(TEN_S)
        await fire(store)
        before = await store.get_schedule("s")
        changed = await store.put_schedule(replace(schedule(), input=b'{"n":2}'))
        assert changed.new.input == b'{"n":2}'
        assert (changed.next_due_us, changed.fires) == (before.next_due_us, 1)
        assert len(await store.list_schedules()) == 1

    async def test_a_schedule_that_is_not_there_is_named(self, store: Store) -> None:
        for call in (
            store.get_schedule("x"),
            store.list_fires("x", 1),
            store.pause_schedule("x"),
            store.resume_schedule("x"),
            store.remove_schedule("x"),
            store.run_schedule_now("x"),
            store.backfill_schedule("x", 0, 1),
        ):
            with pytest.raises(ScheduleNotFound, match="x"):
                await call

    async def test_what_cannot_be_is_refused_and_nothing_is_kept(self, store: Store) -> None:
        with pytest.raises(UsageError, match="Europe/Berlin"):
            await store.put_schedule(schedule(trigger=Cron(expression="* * * * *", zone="Berlin")))
        with pytest.raises(UsageError, match="too often"):
            await store.put_schedule(schedule(trigger=Interval(every_us=1)))
        with pytest.raises(UsageError, match="priority"):
            await store.put_schedule(replace(schedule(), priority=10_000))
        with pytest.raises(PayloadTooLarge, match="'s'"):
            await store.put_schedule(replace(schedule(), input=b'"' + b"x" * 70_000 + b'"'))
        with pytest.raises(Refused, match="for ever"):
            await store.put_schedule(schedule(trigger=After(name=AGENT)))
        assert await store.list_schedules() == []

    async def test_removing_a_schedule_leaves_its_runs(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule())
        place.clock.advance(TEN_S)
        await fire(store)
        await store.remove_schedule("s")
        place.clock.advance(TEN_S)
        assert await fire(store) == 0
        (run_id,) = await run_ids(store)
        assert await store.get_fire(run_id) is None

    # --- firing ---------------------------------------------------------------------------------------------

    async def test_nothing_is_fired_before_its_time(self, store: Store, place: Place) -> None:
        assert (await store.fire_schedules(10)).next_in_us is None
        await store.put_schedule(schedule())
        place.clock.advance(TEN_S - SECOND_US)
        fired = await store.fire_schedules(10)
        assert (fired.schedules, fired.next_in_us) == (0, SECOND_US)
        assert await run_ids(store) == []

    async def test_a_fire_is_a_run_with_the_schedule_s_input_queue_and_priority(
        self, store: Store, place: Place
    ) -> None:
        added = await store.put_schedule(schedule())
        place.clock.advance(TEN_S)
        fired = await store.fire_schedules(10)
        assert (fired.schedules, fired.next_in_us) == (1, TEN_S)
        one = await newest(store)
        assert (one.status, one.due_us, one.n, one.cause) == (
            FireStatus.FIRED,
            added.next_due_us,
            1,
            FireCause.TIME,
        )
        assert one.run is not None
        run = await store.get_run(one.run)
        assert (run.agent, run.version, run.queue, run.priority) == (AGENT, VERSION, "q", 3)
        assert (run.state, await store.get_input(run.id)) == (RunState.QUEUED, b'{"n":1}')
        assert await store.get_fire(run.id) == one
        await store.create_run(new_run("other"))
        assert await store.get_fire("other") is None

    async def test_a_due_time_is_met_once_by_any_number_of_callers(self, store: Store, place: Place) -> None:
        for n in range(20):
            await store.put_schedule(schedule(f"s{n}"))
        others = [await place.open() for _ in range(3)]
        for _ in range(3):
            place.clock.advance(TEN_S)
            await asyncio.gather(*(handle.fire_schedules(7) for handle in (store, *others) for _ in range(5)))
            await fire(store)
        ids = await run_ids(store)
        assert (
            len(ids) == len(set(ids)) == 20
        )  # the second and third are skipped: the first run is unfinished
        for n in range(20):
            assert await told(store, f"s{n}") == ["fired", "skipped", "skipped"]

    async def test_a_clock_that_is_set_back_meets_no_time_again(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule(overlap=Overlap.ALLOW))
        place.clock.advance(TEN_S)
        await fire(store)
        place.clock.set_back(2 * TEN_S)
        assert await fire(store) == 0
        place.clock.advance(2 * TEN_S)
        assert await fire(store) == 0
        place.clock.advance(TEN_S)
        assert await fire(store) == 1
        assert await told(store) == ["fired", "fired"]

    async def test_an_absence_is_caught_up_as_the_policy_says(self, store: Store, place: Place) -> None:
        for kind in CatchUpKind:
            await store.put_schedule(schedule(kind, catch_up=kind, overlap=Overlap.ALLOW))
        place.clock.advance(35 * SECOND_US)
        await fire(store)
        assert await told(store, "all") == ["fired"] * 3
        assert await told(store, "last") == ["missed", "missed", "fired"]
        assert await told(store, "skip") == ["missed", "missed", "fired"]
        assert (await store.get_schedule("last")).missed == 2

    async def test_an_id_that_is_taken_makes_the_fire_a_missed_one(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule(overlap=Overlap.ALLOW))
        place.clock.advance(TEN_S)
        await fire(store)
        taken = (await newest(store)).run
        assert taken is not None
        await store.remove_schedule("s")
        await store.put_schedule(replace(schedule(), input=b'{"n":2}'))
        place.clock.set_back(TEN_S)
        await store.remove_schedule("s")
        await store.put_schedule(replace(schedule(), input=b'{"n":2}'))
        place.clock.advance(TEN_S)
        await fire(store)
        one = await newest(store)
        assert (one.status, one.run) == (FireStatus.MISSED, None)
        assert taken in str(one.why)
        assert (await store.get_schedule("s")).missed == 1
        place.clock.advance(TEN_S)
        assert await fire(store) == 1

    async def test_many_due_schedules_are_fired_in_batches(self, store: Store, place: Place) -> None:
        for n in range(25):
            await store.put_schedule(schedule(f"s{n}"))
        place.clock.advance(TEN_S)
        fired = await store.fire_schedules(10)
        assert 0 < fired.schedules <= 10
        assert fired.next_in_us == 0
        assert fired.schedules + await fire(store) == 25
        assert len(await run_ids(store)) == 25

    async def test_the_history_keeps_the_newest_fires(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule())
        for _ in range(3):
            place.clock.advance(TEN_S)
            await fire(store)
        assert [one.n for one in await store.list_fires("s", 2)] == [3, 2]

    # --- overlap --------------------------------------------------------------------------------------------

    async def test_a_queued_fire_goes_when_the_run_before_it_ends(self, store: Store, place: Place) -> None:
        worker = await register(store)
        await store.put_schedule(schedule(overlap=Overlap.QUEUE))
        for _ in range(3):
            place.clock.advance(TEN_S)
            await fire(store)
        assert await told(store) == ["fired", "queued", "queued"]
        for done in range(2):
            fires = list(reversed(await store.list_fires("s", 10)))
            run_id = fires[done].run
            assert run_id is not None
            await succeed(store, worker, run_id)
            assert (await store.fire_schedules(10)).schedules == 1
            assert await fire(store) == 0
        assert await told(store) == ["fired", "fired", "fired"]

    async def test_every_kind_of_end_gives_the_next_its_turn(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule(overlap=Overlap.QUEUE))
        for _ in range(2):
            place.clock.advance(TEN_S)
            await fire(store)
        first = (await store.list_fires("s", 10))[1].run
        assert first is not None
        await store.update_run(first, transitions.cancel)
        await fire(store)
        assert await told(store) == ["fired", "fired"]

    async def test_a_run_that_is_taken_up_again_is_in_the_way_again(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule())
        place.clock.advance(TEN_S)
        await fire(store)
        run_id = (await newest(store)).run
        assert run_id is not None
        await store.update_run(run_id, transitions.cancel)
        await store.update_run(run_id, transitions.retry)
        place.clock.advance(TEN_S)
        await fire(store)
        assert await told(store) == ["fired", "skipped"]

    async def test_cancel_ends_the_run_before_in_the_same_transaction(
        self, store: Store, place: Place
    ) -> None:
        await store.put_schedule(schedule(overlap=Overlap.CANCEL))
        for _ in range(2):
            place.clock.advance(TEN_S)
            await fire(store)
        first, second = [await store.get_run(run_id) for run_id in await run_ids(store)]
        assert (first.state, second.state) == (RunState.CANCELLED, RunState.QUEUED)

    async def test_allow_fires_beside_the_run_before(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule(overlap=Overlap.ALLOW))
        for _ in range(2):
            place.clock.advance(TEN_S)
            await fire(store)
        assert await told(store) == ["fired", "fired"]

    @pytest.mark.parametrize("overlap", list(Overlap))
    async def test_overlap_and_the_line_of_a_concurrency_key_both_hold(
        self, store: Store, place: Place, overlap: Overlap
    ) -> None:
        """The place of the key is taken, and somebody else stands in line, too."""
        worker, lane = await register(store), Lane(key="k", at_most=1)
        await store.create_run(dataclasses.replace(new_run("before"), lane=lane))
        (before,) = await take_any(store, worker, 100)
        await store.put_schedule(replace(schedule(overlap=overlap), lane=lane, priority=0))

        async def fire_and_claim() -> str:
            place.clock.advance(TEN_S)
            await fire(store)
            assert await take_any(store, worker, 100) == []
            return (await newest(store)).run or ""

        first = await fire_and_claim()
        assert (await store.get_run(first)).reason is Reason.LIMIT
        second = await fire_and_claim()  # while the first stands in line
        place.clock.advance(1)
        await store.create_run(dataclasses.replace(new_run("between"), lane=lane))
        assert await take_any(store, worker, 100) == []
        await before.settle(Succeeded(result=b"1"))
        (running,) = await take_any(store, worker, 100)
        place.clock.advance(TEN_S)
        await fire(store)  # while the first runs, or the one that cancelled it
        third = (await newest(store)).run or ""
        order = [running.run.id, *await _one_after_the_other(store, worker, running)]

        runs = [one.run or "" for one in reversed(await store.list_fires("s", 10))]
        statuses, ran, cancelled = {
            Overlap.SKIP: (["fired", "skipped", "skipped"], [first, "between"], []),
            Overlap.QUEUE: (["fired"] * 3, [first, "between", *runs[1:]], []),
            Overlap.CANCEL: (["fired"] * 3, [second, "between", third], [first, second]),
            Overlap.ALLOW: (["fired"] * 3, [first, second, "between", third], []),
        }[overlap]
        assert (await told(store), order) == (statuses, ran)
        ended = {run.id: run.state for run in await store.list_runs(RunFilter())}
        assert ended == {
            **dict.fromkeys(["before", *ran], RunState.SUCCEEDED),
            **dict.fromkeys(cancelled, RunState.CANCELLED),
        }

    # --- after other runs -----------------------------------------------------------------------------------

    async def test_each_success_of_an_agent_or_schedule_is_followed_once(
        self, store: Store, place: Place
    ) -> None:
        worker = await register(store)
        await store.put_schedule(schedule("nightly"))
        follows = replace(schedule("then", After(name="nightly"), overlap=Overlap.ALLOW), agent="other")
        await store.put_schedule(follows)
        await store.put_schedule(replace(follows, name="too", trigger=After(name=AGENT)))
        place.clock.advance(TEN_S)
        await fire(store)
        (run_id,) = await run_ids(store)
        await succeed(store, worker, run_id)
        await store.create_run(new_run("r"))
        await succeed(store, worker, "r")
        assert await fire(store) == 2
        assert [one.source for one in await store.list_fires("then", 10)] == [run_id]
        assert {one.source for one in await store.list_fires("too", 10)} == {run_id, "r"}
        assert await told(store, "too") == ["fired", "fired"]
        assert await fire(store) == 0
        assert len(await run_ids(store)) == 5

    async def test_failed_and_cancelled_runs_are_not_followed(self, store: Store, place: Place) -> None:
        await store.put_schedule(replace(schedule("then", After(name=AGENT)), agent="other"))
        await store.create_run(new_run("r"))
        await store.update_run("r", transitions.cancel)
        assert await fire(store) == 0
        assert await told(store, "then") == []

    # --- steering -------------------------------------------------------------------------------------------

    async def test_a_paused_schedule_fires_nothing_and_a_resumed_one_catches_up(
        self, store: Store, place: Place
    ) -> None:
        await store.put_schedule(schedule())
        assert (await store.pause_schedule("s")).paused
        assert (await store.pause_schedule("s")).paused
        place.clock.advance(25 * SECOND_US)
        assert (await store.fire_schedules(10)).next_in_us is None
        assert not (await store.resume_schedule("s")).paused
        await store.resume_schedule("s")
        await fire(store)
        assert await told(store) == ["missed", "fired"]

    async def test_successes_during_a_pause_are_caught_up(self, store: Store) -> None:
        worker = await register(store)
        await store.put_schedule(replace(schedule("then", After(name=AGENT)), agent="other"))
        await store.pause_schedule("then")
        for run_id in ("a", "b"):
            await store.create_run(new_run(run_id))
            await succeed(store, worker, run_id)
        assert await fire(store) == 0
        await store.resume_schedule("then")
        await fire(store)
        assert await told(store, "then") == ["missed", "fired"]

    async def test_run_now_starts_a_run_beside_all_others(self, store: Store, place: Place) -> None:
        await store.put_schedule(schedule())
        await store.pause_schedule("s")
        first, second = await store.run_schedule_now("s"), await store.run_schedule_now("s")
        assert first.status is second.status is FireStatus.FIRED
        assert await run_ids(store) == [first.run, second.run]
        assert [one.n for one in await store.list_fires("s", 10)] == [2, 1]
        assert (await store.get_schedule("s")).fires == 2

    async def test_a_backfill_twice_is_once(self, store: Store, place: Place) -> None:
        added = await store.put_schedule(schedule(overlap=Overlap.ALLOW))
        assert added.next_due_us is not None
        window = added.next_due_us - 5 * TEN_S, added.next_due_us + 100 * TEN_S
        queued = await store.backfill_schedule("s", *window)
        assert len(queued) == 5
        assert {one.status for one in queued} == {FireStatus.QUEUED}
        assert await store.backfill_schedule("s", *window) == []
        await fire(store)
        assert await told(store) == ["fired"] * 5
        assert await store.backfill_schedule("s", *window) == []
        assert await fire(store) == 0
        place.clock.advance(TEN_S)
        await fire(store)
        assert len(await run_ids(store)) == 6

    async def test_a_backfill_makes_up_for_what_was_missed(self, store: Store, place: Place) -> None:
        added = await store.put_schedule(schedule(overlap=Overlap.ALLOW))
        assert added.next_due_us is not None
        place.clock.advance(35 * SECOND_US)
        await fire(store)
        assert await told(store) == ["missed", "missed", "fired"]
        filled = await store.backfill_schedule("s", added.next_due_us, added.next_due_us + 2 * TEN_S)
        assert [one.n for one in filled] == [1, 2]
        await fire(store)
        assert await told(store) == ["fired", "fired", "fired"]
        assert (await store.get_schedule("s")).fires == 3
