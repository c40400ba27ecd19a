"""The client: start, look, wait, watch and steer, over a real store and real workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import Context, FatalError, RunCancelled, RunFailed, Worker, agent, open_store
from holdfast.client import Client
from holdfast.client.view import event_payload
from holdfast.errors import (
    CheckpointNotFound,
    Conflict,
    InvalidInput,
    InvalidTransition,
    Refused,
    RunNotFound,
    StoreUnavailable,
    UsageError,
)
from holdfast.model import Event, Reason, RunState
from tests.faults import Engine


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Walk:
    done: int = 0


async def shift(point: Point) -> Point:
    return Point(point.x + 1, point.y)


@agent
async def move(ctx: Context, point: Point) -> Point:
    return await ctx.step(shift, point)


broken = True


async def act(n: int) -> int:
    if broken and n == 2:
        raise FatalError("two is broken")
    return n


@agent
async def walk(ctx: Context, length: int) -> int:
    s = ctx.restore(Walk)
    while s.done < length:
        await ctx.step(act, s.done)
        s.done += 1
        ctx.progress(s.done, length)
        await ctx.checkpoint(s, force=True)
    return s.done


@agent
async def wait(ctx: Context) -> object:
    return await ctx.wait_for("go")


@pytest.fixture(autouse=True)
def _broken() -> None:
    global broken
    broken = True


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_a_result_comes_in_the_declared_type_from_a_typed_handle_and_as_json_from_an_untyped(
    engine: Engine,
) -> None:
    handle = await engine.client.start(move, Point(1, 2))
    await engine.work(move)
    assert await handle.result() == Point(2, 2)
    assert await (await engine.client.get(handle.id)).result() == {"x": 2, "y": 2}


async def test_start_is_idempotent_by_id_and_refuses_another_input_or_agent(engine: Engine) -> None:
    first = await engine.client.start(walk, 3, id="one")
    assert (await engine.client.start(walk, 3, id="one")).id == first.id
    with pytest.raises(Conflict):
        await engine.client.start(walk, 4, id="one")
    with pytest.raises(Conflict):
        await engine.client.start(move, Point(0, 0), id="one")
    assert [view.id for view in await engine.client.runs()] == ["one"]


async def test_runs_without_an_id_are_called_after_their_agent_and_never_meet(engine: Engine) -> None:
    ids = {(await engine.client.start(walk, 1)).id for _ in range(20)}
    assert len(ids) == 20
    assert all(one.startswith("walk-") for one in ids)


@pytest.mark.parametrize("bad", ["", "a b", "tab\there", "-x", "x" * 201])
async def test_an_id_that_nobody_could_type_is_refused(engine: Engine, bad: str) -> None:
    with pytest.raises(UsageError):
        await engine.client.start(walk, 1, id=bad)


async def test_arguments_that_do_not_fit_are_refused_at_the_start(engine: Engine) -> None:
    with pytest.raises(InvalidInput):
        await engine.client.start(walk, "three")  # type: ignore[arg-type]
    assert await engine.client.runs() == []


async def test_many_runs_are_started_in_few_transactions_and_an_interrupted_start_goes_on(
    engine: Engine,
) -> None:
    points = [(Point(number, 0),) for number in range(1_203)]
    await engine.client.start_many(move, points[:700], id=lambda number: f"p{number}")
    handles = await engine.client.start_many(
        move, iter(points), id=lambda number: f"p{number}", tags={"night": ""}
    )
    assert [handle.id for handle in handles] == [f"p{number}" for number in range(1_203)]
    assert len(await engine.client.runs(limit=10_000)) == 1_203
    assert len(await engine.client.runs(tags={"night": ""}, limit=10_000)) == 503
    with pytest.raises(Conflict):
        await engine.client.start_many(move, [(Point(9, 9),)], id=lambda number: "p0")
    with pytest.raises(InvalidInput):
        await engine.client.start_many(move, [("x",)], id=lambda number: "new")  # type: ignore[list-item]
    unnamed = await engine.client.start_many(move, points[:3])
    await engine.work(move)
    assert await unnamed[2].result() == Point(3, 0)


async def test_runs_are_filtered(engine: Engine) -> None:
    await engine.client.start(walk, 1, id="w", queue="slow", priority=5)
    await engine.client.start(move, Point(0, 0), id="m")
    assert [view.id for view in await engine.client.runs(agent="walk")] == ["w"]
    assert [view.id for view in await engine.client.runs(queue="slow")] == ["w"]
    assert [view.id for view in await engine.client.runs(states=[RunState.FAILED])] == []
    assert [view.id for view in await engine.client.runs(limit=1)] == ["m"]


async def test_a_delayed_run_is_not_claimed_before_its_time(engine: Engine) -> None:
    handle = await engine.client.start(walk, 1, delay="1h")
    detail = await handle.detail()
    assert detail.due_at is not None
    view = await handle.status()
    assert 3599 <= (detail.due_at - view.created_at).total_seconds() <= 3601


async def test_a_failed_run_raises_its_failure_with_the_class_and_a_cancelled_one_says_so(
    engine: Engine,
) -> None:
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    with pytest.raises(RunFailed, match="two is broken") as caught:
        await handle.result()
    assert caught.value.failure.kind == "fatal"
    assert "test_client.py" in caught.value.failure.frames
    waiting = await engine.client.start(wait)
    await waiting.cancel()
    with pytest.raises(RunCancelled):
        await waiting.result()


async def test_retry_of_a_failed_run_supersedes_the_failure_and_repeats_nothing_else(engine: Engine) -> None:
    global broken
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    broken = False
    assert (await handle.retry()).state is RunState.QUEUED
    await engine.work(walk)
    assert await handle.result() == 4
    assert [(step.n, step.status) for step in await handle.steps()] == [
        (1, "ok"),
        (2, "ok"),
        (3, "superseded"),
        (4, "ok"),
        (5, "ok"),
    ]
    with pytest.raises(InvalidTransition):
        await handle.retry()


async def test_of_two_retries_at_once_one_wins_and_the_other_is_refused(engine: Engine) -> None:
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    answers = await asyncio.gather(handle.retry(), handle.retry(), return_exceptions=True)
    assert [type(answer) for answer in answers].count(Refused) == 1
    assert "moved meanwhile" in str(next(answer for answer in answers if isinstance(answer, Refused)))
    assert [event.type for event in await engine.events(handle.id)].count("run.queued") == 2


async def test_retry_from_checkpoint_supersedes_the_tail_alone(engine: Engine) -> None:
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    await handle.retry(from_checkpoint=True)
    statuses = [step.status for step in await handle.steps()]
    assert statuses == ["ok", "ok", "superseded"]


async def test_ways_out_of_a_mismatch_are_refused_where_there_is_none(engine: Engine) -> None:
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    for way in ({"accept": 1}, {"drop": 1}, {"rerun": 1}, {"insert": True}):
        with pytest.raises(Refused, match="not held for a mismatch"):
            await handle.retry(**way)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one way out"):
        await handle.retry(accept=1, insert=True)
    assert (await handle.status()).state is RunState.FAILED


async def first(n: int) -> str:
    return f"first {n}"


async def second(n: int) -> str:
    return f"second {n}"


@agent(name="edited")
async def before_the_edit(ctx: Context) -> list[object]:
    return [await ctx.step(first, 1), await ctx.wait_for("go")]


@agent(name="edited")
async def renamed(ctx: Context) -> list[object]:
    return [await ctx.step(second, 1), await ctx.wait_for("go")]


@agent(name="edited")
async def inserted(ctx: Context) -> list[object]:
    return [await ctx.step(second, 0), await ctx.step(first, 1), await ctx.wait_for("go")]


@agent(name="edited")
async def removed(ctx: Context) -> list[object]:
    return [await ctx.wait_for("go")]


@pytest.mark.parametrize(
    ("edit", "way", "result"),
    [
        (renamed, {"accept": 1}, ["first 1", "now"]),
        (renamed, {"rerun": 1}, ["second 1", "now"]),
        (renamed, {"from_checkpoint": True}, None),
        (inserted, {"insert": True}, ["second 0", "first 1", "now"]),
        (removed, {"drop": 1}, ["now"]),
        (before_the_edit, {}, ["first 1", "now"]),
    ],
    ids=["accept", "rerun", "from_checkpoint", "insert", "drop", "code put back"],
)
async def test_each_way_out_of_a_mismatch_leads_out(
    engine: Engine, edit: Any, way: dict[str, Any], result: list[object] | None
) -> None:
    handle = await engine.client.start(before_the_edit)
    await engine.work(before_the_edit)
    await handle.signal("go", "now")
    await engine.work(removed if edit is before_the_edit else edit)
    held = await handle.status()
    assert (held.state, held.reason) == (RunState.WAITING, Reason.MISMATCH)
    detail = await handle.detail()
    assert detail.mismatch is not None and detail.mismatch_entry is not None
    await handle.retry(**way)
    await engine.work(edit)
    view = await handle.status()
    if result is None:  # the setup is not of the tail: the mismatch stays
        assert view.reason is Reason.MISMATCH
    else:
        assert (view.state, view.result) == (RunState.SUCCEEDED, result)


async def test_a_way_out_names_an_entry_that_is_there(engine: Engine) -> None:
    handle = await engine.client.start(before_the_edit)
    await engine.work(before_the_edit)
    await handle.signal("go")
    await engine.work(renamed)
    with pytest.raises(Refused, match="no live entry 77"):
        await handle.retry(accept=77)


async def test_watch_misses_nothing_from_any_number_on_and_ends_after_the_final_event(engine: Engine) -> None:
    global broken
    broken = False
    handle = await engine.client.start(walk, 5)
    live = asyncio.create_task(collect(handle.watch()))
    await engine.work(walk)
    events = await asyncio.wait_for(live, 10)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert events[0].type == "run.queued" and events[-1].type == "run.succeeded"
    for after in range(len(events) + 1):
        assert await collect(handle.watch(after)) == events[after:]


async def test_watch_goes_on_over_a_retry_and_over_another_store_object(engine: Engine) -> None:
    global broken
    handle = await engine.client.start(walk, 4)
    await engine.work(walk)
    failed = await collect(handle.watch())
    assert failed[-1].type == "run.failed"
    broken = False
    await handle.retry()
    async with open_store(engine.url) as other:
        rest = asyncio.create_task(collect((await Client(other).get(handle.id)).watch(failed[-1].n)))
        await engine.work(walk)
        events = await asyncio.wait_for(rest, 10)
    assert [event.type for event in events[:1]] == ["run.queued"]
    assert events[-1].type == "run.succeeded"


class Flaky:
    """A store that is away for some calls."""

    def __init__(self, engine: Engine, away: int) -> None:
        self._store = engine.store
        self.away = away

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.away > 0:
                self.away -= 1
                raise StoreUnavailable("away for a moment")
            return await value(*args, **kwargs)

        return call if asyncio.iscoroutinefunction(value) else value


async def test_watch_and_result_survive_a_store_that_is_away_for_a_moment(engine: Engine) -> None:
    global broken
    broken = False
    handle = await engine.client.start(walk, 2)
    await engine.work(walk)
    flaky = Client(Flaky(engine, 2))  # type: ignore[arg-type]
    assert await flaky.handle(walk, handle.id).result() == 2
    again = Client(Flaky(engine, 2))  # type: ignore[arg-type]
    events = await collect(again.handle(walk, handle.id).watch())
    assert events[-1].type == "run.succeeded"


async def test_a_signal_counts_once_by_its_dedup_and_wakes_the_run(engine: Engine) -> None:
    handle = await engine.client.start(wait)
    await engine.work(wait)
    detail = await handle.detail()
    assert detail.wait_name == "go"
    sent = await handle.signal("go", {"n": 1}, dedup="a")
    assert (await handle.signal("go", {"n": 1}, dedup="a")).n == sent.n
    await engine.work(wait)
    assert await handle.result() == {"n": 1}
    with pytest.raises(Refused):
        await handle.signal("go")
    with pytest.raises(UsageError, match="needs a name"):
        await handle.signal("")


async def test_pause_and_resume_of_a_run_that_nobody_executes(engine: Engine) -> None:
    handle = await engine.client.start(walk, 1)
    paused = await handle.pause()
    assert (paused.state, paused.reason) == (RunState.WAITING, Reason.PAUSED)
    assert (await handle.resume()).state is RunState.QUEUED


async def test_a_running_run_shows_its_worker_resources_and_open_step(engine: Engine) -> None:
    gate = asyncio.Event()

    async def hold() -> None:
        await gate.wait()

    @agent
    async def holding(ctx: Context) -> None:
        await ctx.step(hold)

    handle = await engine.client.start(holding)
    async with open_store(engine.url) as store, Worker(store, [holding], name="w"):
        view = await handle.status()
        async with asyncio.timeout(10):
            while view.step is None:
                await asyncio.sleep(0.02)
                view = await handle.status()
        assert (view.state, view.step, view.attempts) == (RunState.RUNNING, "hold", 1)
        assert view.worker is not None and view.worker.name == "w"
        gate.set()
        await handle.result()
    assert (await handle.status()).worker is None


async def test_four_clocks_are_shown_apart_and_say_whether_it_works(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    @agent(deadline="1h")
    async def asking(ctx: Context) -> None:
        await ctx.step(gate.wait, name="ask")

    handle = await engine.client.start(asking)
    async with open_store(engine.url) as store, Worker(store, [asking]):
        view = await handle.status()
        async with asyncio.timeout(10):
            while view.clocks is None or view.clocks.step_s is None:
                await asyncio.sleep(0.02)
                view = await handle.status()
        assert view.clocks.sign == "working"
        assert view.clocks.lease_left_s is not None and 0 < view.clocks.lease_left_s <= 30
        assert view.clocks.deadline_left_s is not None and 3000 < view.clocks.deadline_left_s <= 3600
        monkeypatch.setattr("holdfast.rules.clocks.SILENT_US", 500_000)
        async with asyncio.timeout(20):
            while view.clocks is not None and view.clocks.sign not in ("busy", "idle"):
                await asyncio.sleep(0.05)
                view = await handle.status()
        assert view.clocks is not None
        assert view.clocks.step_s is not None and view.clocks.step_s >= view.clocks.silent_s >= 0.5
        (listed,) = await engine.client.runs()
        assert listed.clocks is not None and listed.clocks.step_s is not None
        gate.set()
        await handle.result()
    assert (await handle.status()).clocks is None


async def test_state_and_checkpoints_are_read_from_outside(engine: Engine) -> None:
    global broken
    broken = False
    handle = await engine.client.start(walk, 3)
    assert await handle.checkpoints() == []
    with pytest.raises(CheckpointNotFound):
        await handle.state()
    await engine.work(walk)
    stored = await handle.checkpoints()
    assert [one.n for one in stored] == [1, 2, 3]
    assert all(one.good for one in stored)
    assert await handle.state() == {"done": 3}
    assert await handle.state(1) == {"done": 1}
    view = await handle.status()
    assert view.checkpoint is not None and view.checkpoint.n == 3
    assert view.progress is not None and view.progress.percent == 100
    assert await handle.input() == {"length": 3}


async def test_delete_takes_all_of_a_final_run_and_refuses_any_other(engine: Engine) -> None:
    handle = await engine.client.start(wait)
    with pytest.raises(Refused):
        await handle.delete()
    await handle.cancel()
    await handle.delete()
    for ask in (handle.status, handle.steps, handle.checkpoints, handle.delete, handle.cancel):
        with pytest.raises(RunNotFound):
            await ask()
    with pytest.raises(RunNotFound):
        await collect(handle.watch())
    with pytest.raises(RunNotFound):
        await engine.client.get(handle.id)


async def test_events_carry_json_objects(engine: Engine) -> None:
    handle = await engine.client.start(walk, 2)
    events = await engine.store.read_events(handle.id, 0, 10)
    assert event_payload(events[0])["agent"] == "walk"
