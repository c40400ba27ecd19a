"""What a worker sees of runs with processes of their own, and what people ask of it: hold them back, kill them."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from examples.foreign.agents import count
from holdfast import Worker
from holdfast.client import RunView
from holdfast.errors import InvalidTransition, Refused, StoreUnavailable
from holdfast.model import Level, NewSample, Reason, Release, RunState, Sampled, TreeSample, Wish
from holdfast.process.sampling import HISTORIES, Sampling
from holdfast.process.sightings import Sightings
from holdfast.rules import clocks, ladder
from holdfast.rules import sampling as rules
from holdfast.rules.clocks import Sign
from holdfast.rules.ladder import Rung
from holdfast.store.protocol import Store
from holdfast.testing.conformance.place import MovableClock, register, start, take
from holdfast.throttle import probe
from tests.faults import Engine
from tests.isolation import held
from tests.isolation.test_isolation import alive, reaches, until

T = TypeVar("T")


def serving(engine: Engine, **options: Any) -> Worker:
    return Worker(engine.store, held.ALL, **options)


async def eventually(
    ask: Callable[[], Awaitable[T]], wanted: Callable[[T], object], within_s: float = 30.0
) -> T:
    """The first answer that is as wanted."""
    ends_s = time.monotonic() + within_s
    while not wanted(found := await ask()):
        assert time.monotonic() < ends_s, f"it never came there: {found}"
        await asyncio.sleep(0.1)
    return found


async def seen(engine: Engine, run_id: str, wanted: Callable[[RunView], object]) -> RunView:
    """The run, as soon as it looks like that from outside."""
    handle = await engine.client.get(run_id)
    return await eventually(handle.status, wanted)


def attempts(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("attempt-")) for path in folder.glob("attempt-*")]


async def warnings(engine: Engine, run_id: str) -> list[str]:
    events = await engine.store.read_events(run_id, 0, 1000)
    return [event.payload.decode() for event in events if event.type == "warning"]


async def test_the_history_tells_for_how_long_code_held_its_event_loop(engine: Engine) -> None:
    handle = await engine.client.start(held.sits, 3.0, id="r")
    async with serving(engine):
        await handle.result()
    lags = [one.loop_lag_s for one in await handle.history() if one.loop_lag_s is not None]
    assert 2.5 < max(lags) < 5
    assert lags[-1] < 1


# --- kill -------------------------------------------------------------------------------------------------------


async def test_a_killed_attempt_is_no_crash_and_the_run_goes_on_from_its_checkpoint(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(held.climbs, str(tmp_path), id="r")
    async with serving(engine):
        await seen(engine, "r", lambda view: view.checkpoint is not None and view.checkpoint.n == 2)
        (first,) = attempts(tmp_path)
        (tmp_path / "go").touch()
        for _ in range(2):  # the second is for the same attempt, or comes too late: it kills nobody else
            try:
                await handle.kill()
            except InvalidTransition:
                pass
        await until(lambda: not alive(first))
        assert await handle.result() == 3
    run = await engine.store.get_run("r")
    assert (run.attempts, run.crashes, run.failures, run.failure) == (2, 0, 0, None)
    events = await engine.store.read_events("r", 0, 1000)
    assert sum(event.type == "run.queued" and b'"killed"' in event.payload for event in events) == 1
    assert [one.name for one in await handle.checkpoints()] == ["place 1", "place 2", "place 3"]


async def test_a_run_that_is_to_pause_is_paused_when_its_attempt_is_killed(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(held.climbs, str(tmp_path), id="r")
    async with serving(engine):
        await seen(engine, "r", lambda view: view.checkpoint is not None and view.checkpoint.n == 2)
        await handle.pause()  # its step takes an hour
        await handle.kill()
        await reaches(engine, "r", Reason.PAUSED)


async def test_a_run_that_is_parked_for_its_limits_stays_parked_when_its_attempt_is_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "PATIENCE_US", 0)
    handle = await engine.client.start(held.heavy, id="r")
    async with serving(engine):
        await eventually(lambda: warnings(engine, "r"), lambda told: '"rung":"park"' in "".join(told))
        await handle.kill()
        await reaches(engine, "r", Reason.PARKED)
    assert (await engine.store.get_run("r")).crashes == 0


async def test_a_run_with_a_loop_in_a_branch_waits_for_a_person_when_its_attempt_is_killed(
    engine: Engine,
) -> None:
    handle = await engine.client.start(held.circles, id="r")
    async with serving(engine):
        await seen(engine, "r", lambda view: view.reason is Reason.LOOP)
        await handle.kill()
        view = await seen(engine, "r", lambda view: view.state is RunState.WAITING)
    assert (view.reason, view.attempts) == (Reason.LOOP, 1)
    detail = await handle.detail()
    assert detail.stopped_by is not None and detail.stopped_by["tools"] == ["look"]


@pytest.mark.skipif(shutil.which("perl") is None, reason="the program is in Perl")
async def test_a_program_in_another_language_is_killed_alone_too(engine: Engine, tmp_path: Path) -> None:
    order = {"steps": 60, "file": str(tmp_path / "seen"), "pause_s": 0.1}
    handle = await engine.client.start(count, order, id="r")
    async with Worker(engine.store, [count]):
        await seen(engine, "r", lambda view: view.steps >= 3)
        await handle.kill()
        view = await seen(engine, "r", lambda view: view.attempts == 2)
        assert view.failures == 0 and view.error is None
        await handle.cancel()


async def test_what_runs_beside_others_cannot_be_killed_alone(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(held.counts, str(tmp_path), id="r")
    async with serving(engine):
        await reaches(engine, "r", RunState.RUNNING)
        with pytest.raises(Refused, match=r"cannot be killed alone.*holdfast pause.*isolation='process'"):
            await handle.kill()
        await engine.store.wish("r", Wish.KILL)  # by another road
        await seen(engine, "r", lambda view: view.steps)
        told = await eventually(lambda: warnings(engine, "r"), len)
        assert "cannot be killed alone" in told[0]
        (tmp_path / "go").touch()
        assert await handle.result() > 0
    assert len(await warnings(engine, "r")) == 1


async def test_only_what_runs_can_be_killed_and_only_what_goes_on_be_throttled(
    engine: Engine, tmp_path: Path
) -> None:
    handle = await engine.client.start(held.rests, 0.0, id="r")
    with pytest.raises(InvalidTransition, match="r is queued: no attempt"):
        await handle.kill()
    async with serving(engine):
        await handle.result()
    for ask in (handle.kill, handle.throttle):
        with pytest.raises(InvalidTransition, match="r is succeeded"):
            await ask()


# --- throttle ---------------------------------------------------------------------------------------------------


async def test_a_throttled_process_gets_less_cpu_until_it_is_let_go(engine: Engine) -> None:
    if Rung.QUOTA not in probe().can:
        pytest.skip("nothing here holds the CPU")
    handle = await engine.client.start(held.spins, 8.0, id="r")
    beside = await engine.client.start(held.spins, 8.0, id="beside")
    assert (await handle.throttle()).throttled  # in advance, too
    async with serving(engine):
        held_back, free = await asyncio.gather(handle.result(), beside.result())
        assert held_back <= 0.75 * free
        handle = await engine.client.start(held.spins, 8.0, id="again")
        beside = await engine.client.start(held.spins, 8.0, id="beside-again")
        await handle.throttle()
        await handle.throttle(off=True)
        let_go, free = await asyncio.gather(handle.result(), beside.result())
        assert let_go >= 0.6 * free
    assert any("held back as asked: its CPU is capped" in one for one in await warnings(engine, "r"))


async def test_a_throttled_run_beside_others_pauses_at_each_step(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(held.counts, str(tmp_path), id="r")
    async with serving(engine):
        await seen(engine, "r", lambda view: view.steps >= 20)
        assert (await handle.throttle()).throttled
        await seen(engine, "r", lambda view: view.reason is Reason.THROTTLED)
        steps = (await handle.status()).steps
        await asyncio.sleep(2.0)
        assert (await handle.status()).steps - steps <= 5  # one each half a second
        assert not (await handle.throttle(off=True)).throttled
        steps = (await handle.status()).steps
        await seen(engine, "r", lambda view: view.steps >= steps + 20)
        (tmp_path / "go").touch()
        await handle.result()
    assert ["held" in one for one in await warnings(engine, "r")] == [True, False]


# --- what is seen ------------------------------------------------------------------------------------------------


async def test_a_run_with_its_own_process_has_its_own_figures_and_sign(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "SILENT_US", 1_500_000)
    await engine.client.start(held.spins, 60.0, id="busy")
    await engine.client.start(held.rests, 60.0, id="idle")
    async with serving(engine, drain_timeout=0):
        busy = await seen(engine, "busy", lambda one: one.clocks and one.clocks.sign is Sign.BUSY)
        idle = await seen(engine, "idle", lambda one: one.clocks and one.clocks.sign is Sign.IDLE)
        assert busy.resources is not None and idle.resources is not None
        assert not busy.resources.shared and not idle.resources.shared
        assert busy.resources.cpu_percent > idle.resources.cpu_percent + 10
        assert idle.resources.memory_mb > 5
        listed = {one.id: one for one in await engine.client.runs()}
        assert listed["busy"].clocks is not None and listed["busy"].clocks.sign is Sign.BUSY
        for run_id in ("busy", "idle"):
            await (await engine.client.get(run_id)).cancel()


async def test_the_history_of_a_run_goes_on_through_its_attempts(engine: Engine, tmp_path: Path) -> None:
    handle = await engine.client.start(held.climbs, str(tmp_path), id="r")
    async with serving(engine):
        await seen(engine, "r", lambda view: view.resources is not None and not view.resources.shared)
        await handle.kill()
        first = await eventually(handle.history, len)
        view = await seen(
            engine,
            "r",
            lambda one: one.attempts == 2 and one.resources is not None and not one.resources.shared,
        )
        assert view.worker is not None and view.worker.pid == os.getpid()
        (tmp_path / "go").touch()
        await handle.kill()
        both = await eventually(handle.history, lambda found: len(found) > len(first))
        for one, other in zip(both, first, strict=False):  # the clocks differ by microseconds
            assert abs((one.at - other.at).total_seconds()) < 0.05
        await handle.result()
    assert all(one.processes >= 1 and one.memory_mb > 5 for one in both)
    assert [one.at for one in both] == sorted(one.at for one in both)


# --- one transaction for all -------------------------------------------------------------------------------------


class Counting:
    """A store that counts what is saved."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rounds: list[int] = []

    async def save_samples(self, seen: Sequence[NewSample]) -> list[bool]:
        self.rounds.append(len(seen))
        return await self._store.save_samples(seen)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def sample(clock: MovableClock, **changes: Any) -> TreeSample:
    figures: dict[str, Any] = {"cpu_percent": 5.0, "memory_bytes": 10_000_000, "processes": 1} | changes
    return TreeSample(at_us=clock.boot_us(), span_us=1_000_000, **figures)


async def test_samples_of_all_runs_are_one_transaction_and_nothing_new_is_none(engine: Engine) -> None:
    worker = await register(engine.store)
    clock = MovableClock()
    runs = [(await start(engine.store, worker, f"r{n}")).run for n in range(3)]
    seen = [Sightings(run, clock) for run in runs]
    store = Counting(engine.store)
    sampling = Sampling(store, lambda: [None, *seen])  # type: ignore[arg-type]
    await sampling.store()
    assert store.rounds == []  # nobody has looked
    for _ in range(3):
        clock.advance(2_000_000)
        for one in seen:
            one.add(sample(clock), Level.OK)
        await sampling.store()
    assert store.rounds == [3]
    seen[1].add(sample(clock, cpu_percent=50.0), Level.OK)
    seen[2].add(sample(clock), Level.WARNING)
    await sampling.store()
    assert store.rounds == [3, 2]
    clock.advance(30_000_000)
    for one in seen:
        one.add(sample(clock), Level.OK)
    await sampling.store()
    assert store.rounds == [3, 2, 3]
    assert len(await engine.store.read_history("r0")) == 4  # 30 s are over: the history goes along


async def test_histories_are_stored_some_at_a_time_and_each_in_its_turn(engine: Engine) -> None:
    worker = await register(engine.store, capacity=100)
    clock = MovableClock()
    runs = [(await start(engine.store, worker, f"r{n}")).run for n in range(2 * HISTORIES + 1)]
    seen = [Sightings(run, clock) for run in runs]
    for one in seen:
        one.add(sample(clock), Level.OK)
    clock.advance(40_000_000)
    stored = []
    for _ in range(3):
        await Sampling(engine.store, lambda: seen).store()
        stored.append(sum([bool(await engine.store.read_history(run.id)) for run in runs]))
    assert stored == [HISTORIES, 2 * HISTORIES, 2 * HISTORIES + 1]


async def test_an_attempt_that_does_not_know_what_came_before_writes_no_history(engine: Engine) -> None:
    worker = await register(engine.store)
    clock = MovableClock()
    first = await start(engine.store, worker)
    past = Sampled(sample=sample(clock), history=tuple(sample(clock) for _ in range(3)))
    await engine.store.save_samples([NewSample(run=first.run.key, token=first.run.token, sampled=past)])
    await first.settle(Release())
    again = await take(engine.store, worker)
    seen = Sightings(again.run, clock)
    seen.add(sample(clock), Level.OK)
    (last,) = seen.at_the_end()
    assert last.history is None
    await Sampling(engine.store, lambda: [seen]).store()
    (last,) = seen.at_the_end()
    assert last.history is not None and len(last.history) == 4


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("a bug of ours")])
async def test_no_error_ends_the_sampling(
    engine: Engine, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "STORE_US", 1_000)
    tries = 0

    def away() -> list[None]:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise asyncio.CancelledError
        raise error

    with pytest.raises(asyncio.CancelledError):
        await Sampling(engine.store, away).run()
    assert tries == 3


async def test_a_history_that_cannot_be_read_costs_no_run_its_figures(engine: Engine) -> None:
    worker = await register(engine.store)
    clock = MovableClock()
    first = await start(engine.store, worker)
    past = Sampled(sample=sample(clock), history=(sample(clock),))
    await engine.store.save_samples([NewSample(run=first.run.key, token=first.run.token, sampled=past)])
    await first.settle(Release())
    connection = apsw.Connection(engine.url.removeprefix("sqlite:///"))
    connection.execute("UPDATE histories SET sha256 = zeroblob(32)")
    connection.close()
    runs = [(await take(engine.store, worker)).run, (await start(engine.store, worker, "other")).run]
    seen = [Sightings(run, clock) for run in runs]
    for one in seen:
        one.add(sample(clock), Level.OK)
    clock.advance(40_000_000)
    await Sampling(engine.store, lambda: seen).store()
    assert all(
        one.sample is not None for one in (await engine.store.glimpse([run.key for run in runs])).values()
    )
    assert len(await engine.store.read_history(runs[0].id)) == 1  # begun anew
