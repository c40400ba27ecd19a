"""Executes what is not recorded yet: a step with its tries, timeouts and retries, and `ctx.once`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import structs

from holdfast.bodies import OVER, Scene, current_scene
from holdfast.calls import Body, BodyStuck, BodyTimedOut, execute
from holdfast.effects import Effects, not_again
from holdfast.errors import LeaseLost, StepFailed, StoreError, Unwind, UsageError
from holdfast.failures import (
    cancelled_within,
    cancelling,
    decode_failure,
    encode_failure,
    failure_of,
    stuck,
    timed_out,
)
from holdfast.looping import Loops, watches
from holdfast.model import (
    SETUP,
    Beside,
    Entry,
    EntryKind,
    EntryStatus,
    Failure,
    Identity,
    Reason,
    Release,
    Retry,
)
from holdfast.opened import OpenCall
from holdfast.pace import Pace
from holdfast.port import Port
from holdfast.recording import ONCE_SCOPE, Recording, check_words, current_scope, scope_of_call
from holdfast.rules import retry as retry_rules
from holdfast.rules.prices import Prices
from holdfast.rules.retry import RetryPolicy
from holdfast.spending import Spending
from holdfast.threads import ThreadCall

UNLOADED_BACKOFF_S: Final = 5.0
"""A backoff longer than this unloads the run: it waits as a row and holds no slot."""
MAX_ONCE: Final = 10_000
"""`ctx.once` keys in the life of a run."""


class Execution:
    """Runs the bodies of one attempt and has their outcomes recorded."""

    def __init__(
        self,
        port: Port,
        recording: Recording,
        chance: Callable[[], float],
        prices: Prices | None = None,
    ) -> None:
        self.stray: list[ThreadCall] = []
        self._port = port
        self._recording = recording
        self._chance = chance
        self._branches = recording.branches
        self._effects = Effects(port, recording, chance, self.stray)
        self._pace = Pace(port, recording)
        self._spending = Spending(port, recording, prices)
        self._limited = bool(self._spending.limited)
        self.loops = Loops(port, recording)
        self._once: dict[str, asyncio.Task[Entry]] = {}

    @property
    def background(self) -> tuple[asyncio.Task[Entry], ...]:
        """Tasks of ours that must not outlive the attempt."""
        return tuple(self._once.values())

    def rest(self) -> tuple[Beside, ...]:
        """What stands beside the end of the attempt: what it cuts off is charged."""
        return self._spending.rest()

    # --- steps ----------------------------------------------------------------------------------------------

    async def step(self, call: OpenCall, body: Body, policy: RetryPolicy) -> object:
        """Answer a step from the journal, or execute it with its retries and record how it ended.

        All in one coroutine: one inside another would cost as much as the body of a quick step (measured).
        """
        recording, port = self._recording, self._port
        with call:
            if call.kind is not EntryKind.ONCE and not recording.executes(call):
                entry = await recording.answered(call)
                if entry is not None:
                    return self._concluded(call, body, entry)
            self._branches.in_flight += 1
            place = recording.doubts.place_of(call.identity, call.args_hash)
            scene = Scene(port, call, call.tries, place, recording.doubts.idempotency_key)
            plain = body.plain and not self._limited
            try:
                while True:
                    found = None if plain else await self._before(call, body, policy, scene)
                    if found is not None:
                        return await self._ended(call, body, found)
                    port.opened(call.identity.name, call.started_at_us)
                    try:
                        if plain:  # what `execute` does then
                            token = current_scene.set(scene)
                            try:
                                result = await body.fn(*call.args)
                            finally:
                                current_scene.reset(token)
                                scene.over = OVER
                        else:
                            result = scene.result = await execute(body, call.args, scene, port, self.stray)
                        payload, value = body.shape.recode(result)
                    except (KeyboardInterrupt, GeneratorExit, Unwind):
                        raise
                    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome of the body
                        found = await self._raised(call, body, error, policy, scene)
                    else:
                        if scene.usages is not None:
                            self._spending.late(call, body, scene)
                        beside = () if body.beside is None else body.beside(value)
                        answer = recording.submit(call, EntryStatus.OK, payload, None, beside)
                        try:
                            call.at_us = (await answer).at_us
                        except asyncio.CancelledError:
                            recording.end.check()
                            recording.unseen(call)
                            raise
                        except (LeaseLost, StoreError) as error:
                            raise recording.end.lost(error) from error
                        recording.deliver(call)
                        if not plain and watches(body):
                            await self._meet(call, body)
                        return value
                    if found is not None:
                        return await self._ended(call, body, found)
                    scene = scene.again(call.tries)
            finally:
                self._branches.in_flight -= 1
                if self._branches.watching:
                    self._branches.tell()

    def _concluded(self, call: OpenCall, body: Body, entry: Entry) -> object:
        """Deliver a recorded outcome: return it, or raise StepFailed."""
        self._recording.deliver(call)
        if watches(body):
            self.loops.observe(call, body, entry)
        return self._outcome(call, body, entry)

    @staticmethod
    def _outcome(call: OpenCall, body: Body, entry: Entry) -> object:
        if entry.status is EntryStatus.FAILED:
            raise _step_failed(call, entry)
        return body.shape.decode(entry.payload)

    async def _before(self, call: OpenCall, body: Body, policy: RetryPolicy, scene: Scene) -> Entry | None:
        """What is to be done before the body of the call may begin; the outcome, when it is found out that there is
        one already, or that nobody can price it under a limit of money."""
        if body.once:
            found = await self._effects.before(call, body, policy, scene)
            if found is not None:
                return found
        meter = None
        while True:  # the turn comes last: one that waited for a budget would be used too late
            if self._limited or body.cost is not None:
                meter, found = await self._spending.begin(call, body, scene)
                if found is not None:
                    return found
            if body.rate is None or await self._pace.turn(call, body.rate):
                break
        if body.once:
            await self._effects.intend(call)
        if meter is not None:
            self._spending.works(call, meter)
        return None

    async def _ended(self, call: OpenCall, body: Body, entry: Entry) -> object:
        """Deliver an outcome that is new: return it, or raise StepFailed."""
        self._recording.deliver(call)
        if watches(body):
            await self._meet(call, body)
        return self._outcome(call, body, entry)

    async def _meet(self, call: OpenCall, body: Body) -> None:
        """A new outcome of a tool or a model: a loop that it goes on with may park the run, with nothing in flight."""
        assert call.entry is not None
        self._branches.in_flight -= 1
        try:
            await self.loops.meet(call, body, call.entry)
        finally:
            self._branches.in_flight += 1

    async def _raised(
        self, call: OpenCall, body: Body, error: BaseException, policy: RetryPolicy, scene: Scene
    ) -> Entry | None:
        """The body raised: the code cancelled it, or the try has failed."""
        scene.error = error
        if scene.usages is not None:
            self._spending.late(call, body, scene)
        if isinstance(error, asyncio.CancelledError) and cancelling():
            self._recording.end.check()
            self._recording.abandon(call)
            raise error
        call.tries += 1
        return await self._try_failed(call, body, error, policy, scene)

    async def _try_failed(
        self, call: OpenCall, body: Body, error: BaseException, policy: RetryPolicy, scene: Scene
    ) -> Entry | None:
        """Record the failed try and wait for the next, or return how the call ended."""
        self._recording.end.check()
        if isinstance(error, BodyStuck) and not body.once:
            await self._recording.tried(call, stuck(call.name, alone=self._port.alone))
            raise self._recording.end.unwinding(Release(reason=Reason.STUCK))
        failure = _failure(call, error, policy)
        if body.rate is not None and failure.retry_after_s is not None:
            await self._pace.hold_back(call, body.rate, failure.retry_after_s)
        undone = True
        if body.once:
            found = await self._effects.after(call, body, policy, scene, error, failure.summary())
            if isinstance(found, Entry):
                return found
            undone = found
        delay_s = None
        if undone:
            delay_s = retry_rules.next_delay_s(policy, failure, call.tries, self._chance())
        if delay_s is None:
            return await self._failed_for_good(call, body, failure, undone=undone)
        self._port.opened(None)
        await self._recording.tried(call, failure)
        if delay_s > UNLOADED_BACKOFF_S and self._branches.in_flight == 1 and not self._branches.several:
            raise self._recording.end.unwinding(
                Retry(failure=failure, delay_us=round(delay_s * 1e6), counted=False)
            )
        self._branches.in_flight -= 1  # between two tries nothing is: others may end the attempt meanwhile
        try:
            await asyncio.sleep(delay_s)
            if self._recording.doubts.asked is not None:
                await self._recording.safe_point()
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise
        finally:
            self._branches.in_flight += 1
        call.started_at_us = self._port.now_us()
        return None

    async def _failed_for_good(self, call: OpenCall, body: Body, failure: Failure, *, undone: bool) -> Entry:
        """Record the failure. When it is known that nothing was done, that is said first: a retry of the run then has
        no reason to ask."""
        if body.once and undone:
            charged = call.settles is not None
            await self._recording.tried(call, failure)
            if charged:
                self._spending.ended(call, body)
        elif body.once and retry_rules.worth_another(failure):
            failure = not_again(failure)
        if call.tries > 1:
            failure = retry_rules.exhausted(call.name, failure, call.tries)
        return await self._recording.record(call, EntryStatus.FAILED, encode_failure(failure))

    # --- once -----------------------------------------------------------------------------------------------

    async def once(self, key: str, body: Body, args: tuple[object, ...], policy: RetryPolicy) -> object:
        """Execute under a key of the run's life, or return what was recorded; callers of one key share it."""
        self._recording.end.check()
        scope_of_call(self._recording.thread)
        check_words("key", key)
        running = self._once.get(key)
        if running is None:
            running = self._once[key] = asyncio.create_task(
                self._run_once(key, body, args, policy), name=f"once {key}"
            )
            running.add_done_callback(lambda task: self._once_ended(key, task))
        try:
            entry = await asyncio.shield(running)
        except asyncio.CancelledError:
            self._recording.end.check()
            raise
        if entry.status is EntryStatus.FAILED:
            raise StepFailed(decode_failure(entry.payload), step=f"once {key}", entry=entry.position)
        return body.shape.decode(entry.payload)

    def _once_ended(self, key: str, task: asyncio.Task[Entry]) -> None:
        del self._once[key]
        if not task.cancelled():
            task.exception()  # read here, so that nobody being there any more is no warning

    async def _run_once(self, key: str, body: Body, args: tuple[object, ...], policy: RetryPolicy) -> Entry:
        current_scope.set(ONCE_SCOPE)
        entry = await self._recording.end.guarded(self._port.once(key))
        if entry is not None:
            return entry
        if await self._recording.end.guarded(self._port.count_once()) >= MAX_ONCE:
            raise UsageError(
                f"the run has {MAX_ONCE} ctx.once keys, its limit: use steps, which checkpoints let go of"
            )
        call = OpenCall(EntryKind.ONCE, Identity(SETUP, "", "once", key, 0), b"", args=args)
        call.started_at_us = self._port.now_us()
        try:
            await self.step(call, body, policy)
        except StepFailed:
            pass
        assert call.entry is not None
        return structs.replace(call.entry, position=call.position, at_us=call.at_us)


def _failure(call: OpenCall, error: BaseException, policy: RetryPolicy) -> Failure:
    if isinstance(error, BodyTimedOut):
        return timed_out(call.name, silent=error.silent)
    if isinstance(error, asyncio.CancelledError):
        return cancelled_within(call.name, error)
    return failure_of(error, policy)


def _step_failed(call: OpenCall, entry: Entry) -> StepFailed:
    return StepFailed(decode_failure(entry.payload), step=call.name, entry=call.position)
