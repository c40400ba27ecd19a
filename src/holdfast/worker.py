"""A worker: claims runs up to its capacity, executes them in its event loop, keeps its lease, drains.

One generation of a worker is one registration in the store. It ends by draining, or by letting go: when the lease
could not be renewed in time the worker drops its attempts by itself and begins a new generation.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from holdfast import capture
from holdfast.agents import AnyAgent, Isolation, check_isolation
from holdfast.attempt import Attempt
from holdfast.clock import Clock, Pace, SystemClock
from holdfast.duration import Duration, seconds
from holdfast.ending import Ending, Lost
from holdfast.errors import StoreError, StoreGone, UsageError, WorkerStuck
from holdfast.exit_status import hear_of_children
from holdfast.heart import Heart, HeartLike, WorkerLock
from holdfast.idleness import nothing_due, tree_is_over
from holdfast.model import (
    Ask,
    Change,
    Claim,
    Level,
    NewWorker,
    Note,
    Park,
    Reason,
    Release,
    RunState,
)
from holdfast.monitor import Monitor, default_thresholds
from holdfast.references import check_not_importing
from holdfast.rules import labels as label_rules
from holdfast.rules import lease as lease_rules
from holdfast.rules import pressure
from holdfast.rules.limits import Limits
from holdfast.serving import Serving
from holdfast.store.protocol import Store
from holdfast.store_clock import StoreClock
from holdfast.tenure import Tenure, told
from holdfast.writer import StoreChannel, Writer

if TYPE_CHECKING:
    from holdfast.process.supervisor import ProcessAttempt

log = logging.getLogger(__name__)

CANCEL_AGAIN_S: Final = 1.0
"""Code that swallows a cancellation is cancelled again this often."""
MIN_LEASE_S: Final = 1.0
"""A shorter lease would end by a slow disk or a busy scheduler, not by a death."""
NAME_LONGEST: Final = 200
"""Characters of a worker's name: people see it in tables."""
GRACE_S: Final = 10.0
"""How long code may go on after it was told to end; then the worker replaces itself."""


class Worker:
    """Executes runs of `agents`. `async with Worker(…)` serves in the background; `await worker.run()` serves here.

    `capacity` is how many runs it holds at a time. `only` restricts it to one run and those that it starts, and ends it
    when that run is over, or all of them wait for somebody. `until_idle` ends it when nothing is left that it could do.
    `drain_timeout` is how long a drain waits for safe points before it releases what is left. `lease` is how long the
    store waits for a sign of life before others may take the runs over; it is renewed three times as often.
    `labels` are what it has for runs that ask for it, such as `gpu`. `isolation="process"` gives each run a process of
    its own, under these `limits`, unless its agent says otherwise.
    """

    def __init__(
        self,
        store: Store,
        agents: Sequence[AnyAgent],
        *,
        capacity: int = 10,
        name: str | None = None,
        only: str | None = None,
        until_idle: bool = False,
        drain_timeout: Duration = 30,
        lease: Duration = lease_rules.LEASE_S,
        thresholds: pressure.Thresholds | None = None,
        isolation: Isolation | None = None,
        limits: Limits | None = None,
        labels: Collection[str] = (),
        clock: Clock | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        chance: Callable[[], float] = random.random,  # noqa: TID251 - jitter: the default of what is an argument
        heart: Callable[[int, Callable[[], None]], HeartLike] | None = None,
    ) -> None:
        if capacity < 1:
            raise UsageError(f"a worker's capacity must be 1 or more, not {capacity}")
        _check_name(name)
        check_not_importing()
        check_isolation(isolation, "a worker")
        self._store = store
        self._capacity = capacity
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._labels = label_rules.checked(labels, "a worker")
        self._only = only
        self._until_idle = until_idle
        self._drain_timeout_s = seconds(drain_timeout)
        self._lease_s = max(MIN_LEASE_S, seconds(lease))
        self._thresholds = thresholds
        self._clock = StoreClock(clock or SystemClock())
        self._serving = Serving(agents, store, isolation, limits, self._clock, chance)
        self._pace = pace
        self._chance = chance
        self._new_heart = heart
        self._tenures: dict[int, Tenure] = {}
        self._stray: list[tuple[float, Attempt | ProcessAttempt]] = []
        self._end: Park | Release | None = None
        self._drain_since = 0.0
        self._said_draining: int | None = None
        self._now = False
        self._let_go = False
        self._begun = False
        self._gone: StoreGone | None = None
        self._stuck: str | None = None
        self._level = Level.OK
        self._asked_at = 0.0
        self._freed = False
        self._doubt = False
        self._background: asyncio.Task[None] | None = None
        self._body: asyncio.Task[Any] | None = None
        self._dead_under: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    # --- from outside ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name under which the worker registers. Names may repeat; generations are told apart by number."""
        return self._name

    @property
    def active(self) -> int:
        """How many runs it holds now."""
        return len(self._tenures)

    def drain(self, reason: Reason = Reason.DRAINED) -> None:
        """Claim nothing more; runs end at their next safe point, and what is left after `drain_timeout` is released.

        `Reason.PARKED` leaves the runs waiting for a person instead of queued. Safe from any thread and from signal
        handlers; asking twice changes nothing.
        """
        self._on_loop(lambda: self._begin_drain(reason))

    def stop_now(self) -> None:
        """End a drain at once: release what is left without waiting for safe points."""

        def stop() -> None:
            self._begin_drain(Reason.DRAINED)
            self._now = True
            self._wake.set()

        self._on_loop(stop)

    async def __aenter__(self) -> Self:
        self._body = asyncio.current_task()
        self._background = asyncio.get_running_loop().create_task(self.run(), name=f"worker {self._name}")
        self._background.add_done_callback(self._died)
        return self

    def _died(self, background: asyncio.Task[None]) -> None:
        """What the body of the `async with` waits for would never come: it ends, and hears why."""
        if self._body is not None and not background.cancelled() and background.exception() is not None:
            self._dead_under = self._body
            self._body.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._body = None
        self.drain()
        if error is not None:
            self.stop_now()
        try:
            if self._background is not None:
                await self._background
        finally:
            if self._dead_under is not None:
                self._dead_under.uncancel()

    # --- serving --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until drained (or idle, or the only run is over). Raises WorkerStuck when the process must be
        replaced, because code of a run does not listen; its runs are released by then."""
        self._loop = asyncio.get_running_loop()
        capture.install()
        hear_of_children()
        await self._serving.prepare()
        try:
            while True:
                self._let_go = False
                await self._generation()
                if self._gone is not None:
                    raise self._gone
                if not self._let_go or self._end is not None:
                    break
                log.warning("worker %s lost its lease and begins again", self._name)
        finally:
            await self._serving.close()
        if self._stuck is not None:
            raise WorkerStuck(self._stuck)

    async def _generation(self) -> None:
        """One registration: serve, and leave nothing of ours behind."""
        lock = self._take_lock()
        retired = False
        try:
            key = await self._register(str(lock.path) if lock else None)
            self._begun = True
            try:
                await self._serve_with_heart(key)
            finally:
                retired = await self._retire(key)
        finally:
            if lock is not None and retired:
                lock.close()
            elif lock is not None:
                lock.forget()  # freed, but left there: whoever finds it free knows that we are gone

    def _take_lock(self) -> WorkerLock | None:
        """What tells others on this machine of a death at once; the lease tells everybody, and is enough."""
        folder = self._store.lock_folder
        try:
            return None if folder is None else WorkerLock(folder)
        except OSError as error:
            log.warning("worker %s has no lock that tells of its death: %s", self._name, error)
            return None

    async def _retire(self, key: int) -> bool:
        """End the generation, so that nobody waits for its lease; a store that is down finds out by itself."""
        try:
            await self._store.retire_worker(key, counted=False)
        except StoreError as error:
            log.warning("worker %s could not say that it goes: %s", self._name, error)
            return False
        return True

    async def _serve_with_heart(self, key: int) -> None:
        heart = self._make_heart(key)
        heart.start()
        writer = Writer(self._store, lambda: heart.trusted)
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(writer.run(), name="writer")
                ticking = group.create_task(self._tick(heart), name="tick")
                watching = group.create_task(self._watch(), name="watch")
                sampling = group.create_task(self._serving.keep_samples(self._tenures), name="samples")
                async with asyncio.TaskGroup() as attempts:  # all settled before the writer goes
                    await self._serve(key, heart, writer, attempts)
                for task in (writing, ticking, watching, sampling):
                    task.cancel()
        finally:
            heart.stop()

    async def _register(self, lock_path: str | None) -> int:
        new = NewWorker(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            capacity=self._capacity,
            serves=self._serving.served,
            lock_path=lock_path,
            apart=self._serving.apart,
            labels=self._labels,
        )
        tries = 0
        while True:
            try:
                return await self._store.register_worker(new, int(self._lease_s * 1e6))
            except StoreError as error:
                if not self._begun or self._end is not None:
                    raise  # a first start that cannot reach its store says so at once
                log.warning("worker %s cannot begin again yet: %s", self._name, error)
            await asyncio.sleep(min(10.0, 0.5 * 2 ** min(tries, 5)) * (0.5 + self._chance() / 2))
            tries += 1

    def _make_heart(self, key: int) -> HeartLike:
        if self._new_heart is not None:
            return self._new_heart(key, self._lease_lost)
        folder = self._store.workspace_folder
        thresholds = self._thresholds or default_thresholds()
        monitor = Monitor(thresholds, folder.parent if folder is not None else None)
        return Heart(
            self._store,
            key,
            lease_s=self._lease_s,
            renew_s=self._lease_s / 3,
            margin_s=self._lease_s / 6,
            clock=self._clock,
            monitor=monitor,
            on_lost=self._lease_lost,
            locks=self._store.lock_folder,
            on_freed=self._wake.set,
        )

    def _lease_lost(self) -> None:
        def let_go() -> None:
            self._let_go = True
            self._wake.set()

        self._on_loop(let_go)

    async def _serve(self, key: int, heart: HeartLike, writer: Writer, group: asyncio.TaskGroup) -> None:
        trouble_s = 0.0
        while True:
            began = self._time()
            claimed = 0
            try:
                if await self._over():
                    return
                await self._clock.keep_up(self._store.now)
                await self._listen(key, writer)
                await self._say_draining(key)
                claimed = await self._claim(key, heart, writer, group)
                trouble_s = 0.0
            except StoreGone as error:
                self._gone, self._let_go = error, True
            except StoreError as error:
                trouble_s = min(5.0, trouble_s * 2 or 0.1)
                self._doubt = True
                log.warning("the store does not answer: %s", error)
            self._press(group)
            if not claimed:
                await self._pause(began, trouble_s)

    async def _say_draining(self, key: int) -> None:
        """The store shows a worker that drains as such, and gives it nothing more."""
        if self._end is not None and self._said_draining != key:
            with suppress(StoreError):  # said again in the next round
                await self._store.mark_draining(key)
                self._said_draining = key

    async def _pause(self, began: float, trouble_s: float) -> None:
        """Wait for news, but not for ever, and not less than a round."""
        pace = self._pace
        timeout_s = min(pace.poll_s, pace.ask_s if self._tenures else pace.poll_s)
        # Not by `asyncio.timeout`: see `timelimit`. Whoever runs the worker may have been cancelled before.
        timer = asyncio.get_running_loop().call_later(max(timeout_s, trouble_s), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()
        round_s = pace.round_s if self._tenures and not self._freed else pace.refill_s
        self._freed = False
        rest_s = max(round_s, trouble_s) - (self._time() - began)
        if rest_s > 0:
            await asyncio.sleep(rest_s)

    async def _watch(self) -> None:
        """News of the store wake the loop of rounds; one task for all of them, so that none falls between two."""
        while True:
            try:
                await self._store.wait_for_news(self._pace.poll_s)
            except StoreError:
                await asyncio.sleep(self._pace.poll_s)
            self._wake.set()
            # Every commit of our own runs is news, too.
            await asyncio.sleep(self._pace.round_s if self._tenures else self._pace.refill_s)

    async def _over(self) -> bool:
        """Whether this generation ends. Attempts are never left behind: they end or are given up first."""
        self._stray = [
            (since, attempt) for since, attempt in self._stray if attempt.running or attempt.stray_threads
        ]
        if self._let_go or self._end is not None:
            return not self._tenures
        if self._only is not None:
            return await self._only_is_over(self._only)
        if self._tenures:
            return False
        return self._until_idle and await nothing_due(self._store, self._serving.within_reach, self._labels)

    async def _only_is_over(self, run_id: str) -> bool:
        """A child that outlives the run is left to other workers."""
        if not self._tenures:
            return await tree_is_over(self._store, run_id)
        held = any(tenure.attempt.claim.run.id == run_id for tenure in self._tenures.values())
        if not held and (await self._store.get_run(run_id)).state.final:
            self._begin_drain(Reason.DRAINED)
        return False

    # --- claiming and executing -----------------------------------------------------------------------------

    async def _claim(self, key: int, heart: HeartLike, writer: Writer, group: asyncio.TaskGroup) -> int:
        self._notice(heart)
        free = self._capacity - len(self._tenures) - len(self._stray)
        if (
            free <= 0
            or self._end is not None
            or self._let_go
            or not heart.trusted
            or self._level is Level.CRITICAL
        ):
            return 0
        claims = await self._store.claim(key, self._serving.served, free, only=self._only)
        for claim in claims:
            self._begin(claim, writer, group)
        return len(claims)

    def _begin(self, claim: Claim, writer: Writer, group: asyncio.TaskGroup) -> None:
        tenure = self._serving.take_on(claim, StoreChannel(claim.run, self._store, writer))
        tenure.press(self._level)
        self._tenures[tenure.key] = tenure
        if capture.heard(log):
            log.info("run %s: attempt %s begins", claim.run.id, claim.run.attempts)
        executing = self._execute(tenure)
        tenure.task = group.create_task(executing, name=f"attempt {claim.run.id}", context=tenure.scene)

    async def _execute(self, tenure: Tenure) -> None:
        try:
            await tenure.attempt.execute()
            if capture.heard(log):
                log.info("run %s: %s", tenure.attempt.claim.run.id, told(tenure.attempt.ending))
        except Exception:  # an attempt's edge: one run's trouble is never another's
            log.exception(
                "attempt %s of run %s", tenure.attempt.claim.run.attempts, tenure.attempt.claim.run.id
            )
            tenure.interrupt(Lost(cancelled=False))
        finally:
            self._doubt |= isinstance(tenure.attempt.ending, Lost)
            if self._tenures.get(tenure.key) is tenure:
                del self._tenures[tenure.key]
            self._freed = True
            if tenure.attempt.stray_threads:
                self._stray.append((self._time(), tenure.attempt))
            if tenure.attempt.stuck:
                self._replace(f"a sync step of run {tenure.attempt.claim.run.id} does not end")
            self._wake.set()

    # --- what is asked --------------------------------------------------------------------------------------

    async def _listen(self, key: int, writer: Writer) -> None:
        """Ask the store what is wished of us and what became of our runs, and pass wishes on.

        After an error nobody knows what the store did: a run may be ours there of which we never heard, or that we
        gave up without saying so. Our lease keeps it from everybody else, so it is given back.
        """
        if self._time() - self._asked_at < self._pace.ask_s / 2:
            return
        self._asked_at = self._time()
        if self._end is None and await self._store.is_draining(key):
            log.info("worker %s is asked to drain", self._name)
            self._begin_drain(Reason.DRAINED)
        if not (self._tenures or self._doubt):
            return
        known = dict(self._tenures)
        self._doubt = False  # a doubt that comes up from here on is for the next look
        try:
            asks = {ask.run: ask for ask in await self._store.asks(key)}
        except BaseException:
            self._doubt = True
            raise
        for run, tenure in known.items():
            self._heed(tenure, asks.get(run))
        for run, ask in asks.items():
            if run not in known and ask.state is RunState.RUNNING:
                writer.submit(Change(run=run, token=ask.token, position=ask.position, outcome=Release()))

    def _heed(self, tenure: Tenure, ask: Ask | None) -> None:
        token = tenure.attempt.claim.run.token
        if tenure.attempt.settled:
            return
        if ask is None or ask.token != token or ask.state is not RunState.RUNNING:
            cancelled = ask is not None and ask.state is RunState.CANCELLED
            self._tell_to_end(tenure, Lost(cancelled=cancelled, message="another attempt owns the run"))
        else:
            tenure.heed(ask)

    def _tell_to_end(self, tenure: Tenure, ending: Ending) -> None:
        now = self._time()
        if tenure.told_to_end_at is None:
            tenure.told_to_end_at = now
        if now - tenure.cancelled_at >= CANCEL_AGAIN_S:
            tenure.cancelled_at = now
            tenure.interrupt(ending)

    def _press(self, group: asyncio.TaskGroup) -> None:
        """Follow up on endings: drains past their time, code that does not listen, threads that never end."""
        now = self._time()
        if self._let_go:
            for tenure in self._tenures.values():
                if tenure.told_to_end_at is None:
                    self._tell_to_end(tenure, Lost(cancelled=False, message="the lease was lost"))
                tenure.kill()  # at once, where it can be: somebody else may have begun
        elif self._end is not None:
            for tenure in self._tenures.values():
                tenure.port.asked = tenure.port.asked or self._end_of(tenure, self._end)
            if self._now or now - self._drain_since >= self._drain_timeout_s:
                for tenure in self._tenures.values():
                    if tenure.told_to_end_at is None:
                        self._tell_to_end(tenure, self._end_of(tenure, self._end))
        for tenure in list(self._tenures.values()):
            if tenure.told_to_end_at is not None:
                self._tell_to_end(tenure, tenure.attempt.ending or Lost(cancelled=False))  # again
                grace_s = 1.0 if self._now else GRACE_S
                if now - tenure.told_to_end_at >= grace_s and not tenure.kill():
                    self._give_up(tenure, group)
        for since, attempt in self._stray:
            if now - since >= GRACE_S and self._stuck is None:
                self._replace(f"a thread of run {attempt.claim.run.id} does not end")

    def _end_of(self, tenure: Tenure, end: Park | Release) -> Park | Release:
        """How a drain ends the attempt: an interrupted `holdfast run` parks its run, and any worker may take what that
        started."""
        parked = isinstance(end, Park) and self._only not in (None, tenure.attempt.claim.run.id)
        return Release() if parked else end

    def _give_up(self, tenure: Tenure, group: asyncio.TaskGroup) -> None:
        """The code does not end. The run is settled without it, and the process has to go."""
        run = tenure.attempt.claim.run
        del self._tenures[tenure.key]
        self._stray.append((self._time(), tenure.attempt))
        if self._end is not None and not self._let_go:
            group.create_task(tenure.attempt.settle(self._end_of(tenure, self._end)), name=f"settle {run.id}")
        if tenure.task is not None:
            tenure.task.cancel()
        self._replace(f"the code of run {run.id} does not listen")

    def _replace(self, why: str) -> None:
        self._stuck = (
            self._stuck
            or f"{why}, and code inside this process can only be asked; the worker replaces itself"
        )
        self._begin_drain(Reason.DRAINED)

    # --- small things ---------------------------------------------------------------------------------------

    def _notice(self, heart: HeartLike) -> None:
        """Tell the runs when the machine comes under pressure, or something holds the loop."""
        warning = heart.take_warning()
        sample = heart.sample
        level = sample.level if sample is not None else Level.OK
        if level is not self._level:
            if sample is not None and level is Level.CRITICAL:
                log.warning("worker %s begins nothing while under pressure: %s", self._name, sample.why)
            elif self._level is Level.CRITICAL:
                log.warning("worker %s begins runs again", self._name)
            self._level = level
            for tenure in self._tenures.values():
                tenure.press(level)
                tenure.port.pressure = level
            if sample is not None and level is not Level.OK:
                warning = warning or f"resources of this worker are at {level}: {sample.why}"
        if warning is not None:
            note = Note("warning", msgspec.json.encode({"code": "resources", "message": warning}))
            for tenure in self._tenures.values():
                tenure.port.note(note)

    async def _tick(self, heart: HeartLike) -> None:
        while True:
            heart.beat()
            now_us = self._clock.wall_us()
            for tenure in list(self._tenures.values()):
                tenure.port.tick(now_us)
            await asyncio.sleep(self._pace.tick_s)

    def _begin_drain(self, reason: Reason) -> None:
        if self._end is None:
            self._end = Park(reason=reason) if reason is Reason.PARKED else Release(reason=reason)
            self._drain_since = self._time() if self._loop is not None else 0.0
            self._wake.set()

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is None:
            call()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _time(self) -> float:
        assert self._loop is not None
        return self._loop.time()


def _check_name(name: str | None) -> None:
    if name is not None and not (len(name) <= NAME_LONGEST and name.isprintable()):
        raise UsageError(
            f"a worker's name has at most {NAME_LONGEST} characters, no control characters, not {name[:80]!r}"
        )
