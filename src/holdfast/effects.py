"""Executes steps with `effect="once"`: an intent before the body, and never a blind second run.

Laws:
1. The body begins only when its intent is durable. One found without an outcome is an effect that may have happened.
2. What may have happened is decided by `verify`, else by a person: the run is held, and nothing is tried again.
3. Of an error only the body can say that nothing was done, by raising TransientError: then it is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn, cast

from holdfast.bodies import Scene
from holdfast.calls import Body, BodyStuck, BodyTimedOut, execute, is_async
from holdfast.errors import FatalError, HoldfastError, TransientError, Unwind
from holdfast.failures import cancelling, encode_failure, failure_of
from holdfast.model import Entry, EntryStatus, Failure, FailureKind, ResolutionKind
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules import retry as retry_rules
from holdfast.rules.retry import RetryPolicy
from holdfast.threads import ThreadCall
from holdfast.verdicts import Done, GivenUp, NotDone

NOT_AGAIN = "not tried again: effect='once', and this error does not say that nothing was done"


MAX_BEGUN: Final = 10
"""An intent is an entry, so a body that takes its worker down every time is not poison; and a worker that goes down
beside others as often is guilty too (`transitions.MAX_CRASHES`)."""


class Effects:
    """What becomes of effects whose outcome is not known."""

    __slots__ = ("_chance", "_port", "_recording", "_stray")

    def __init__(
        self, port: Port, recording: Recording, chance: Callable[[], float], stray: list[ThreadCall]
    ) -> None:
        self._port = port
        self._recording = recording
        self._chance = chance
        self._stray = stray

    async def before(self, call: OpenCall, body: Body, policy: RetryPolicy, scene: Scene) -> Entry | None:
        """Before the body may begin: the outcome of an effect that may have happened, when it is found out that there
        is one. None: nothing was done, and the body may begin when that is intended."""
        if call.doubt is not None:
            return await self._settled(call, body, policy, scene, "it was begun, and no outcome was recorded")
        orphan = self._recording.doubts.unaccounted
        if orphan is None:
            return None
        await self._recording.intend(call)
        why = (
            f"the tail since the checkpoint was superseded, and the effect of entry {orphan.position}, "
            f"{orphan.identity.name!r}, may be this one under another name"
        )
        found = await self._settled(call, body, policy, scene, why)
        call.intended = found is None
        return found

    async def intend(self, call: OpenCall) -> None:
        """Make durable that the body is about to begin, unless that was said before it was asked about: one intent is
        one begin of the body, or `MAX_BEGUN` would be reached sooner."""
        if call.intended:
            call.intended = False
            return
        await self._recording.intend(call)

    async def after(
        self, call: OpenCall, body: Body, policy: RetryPolicy, scene: Scene, error: BaseException, said: str
    ) -> Entry | bool:
        """The body raised. The outcome, when it is found out; else whether nothing was done, so that it may be tried
        again. Holds the run when nobody can know."""
        if isinstance(error, TransientError):
            return True
        if isinstance(error, BodyStuck):
            why = "it outlived its timeout in a thread, which cannot be stopped and may still do it"
            await self._hold(call, why)
        if isinstance(error, FatalError) or not (body.verify or isinstance(error, BodyTimedOut)):
            return False
        entry = await self._settled(call, body, policy, scene, said)
        return True if entry is None else entry

    async def _settled(
        self, call: OpenCall, body: Body, policy: RetryPolicy, scene: Scene, why: str
    ) -> Entry | None:
        """The outcome that is found out and recorded; None: nothing was done. Holds the run when nobody knows."""
        doubt, call.doubt = call.doubt, None
        given = doubt.verdict if doubt is not None else None
        if given is not None and given.kind is ResolutionKind.GIVEN_UP:
            return await self._recording.record(call, EntryStatus.FAILED, given.payload)
        if given is not None and given.kind is ResolutionKind.NOT_DONE:
            return None
        if given is not None:
            return await self._done(
                call, body, lambda: body.shape.recode(body.shape.decode(given.payload))[0]
            )
        if body.verify is None:
            await self._hold(call, why)
        verdict = await self._verdict(call, body, policy, scene, why)
        if isinstance(verdict, NotDone):
            if doubt is not None and doubt.begun >= MAX_BEGUN:
                await self._hold(call, f"its body was begun {doubt.begun} times and never came to an end")
            return None
        if isinstance(verdict, GivenUp):
            return await self._recording.record(
                call, EntryStatus.FAILED, encode_failure(given_up(verdict.message))
            )
        return await self._done(call, body, lambda: body.shape.recode(verdict.value)[0])

    async def _done(self, call: OpenCall, body: Body, encode: Callable[[], bytes]) -> Entry:
        try:
            payload = encode()
        except HoldfastError as error:
            await self._hold(call, f"it was done, but the result that was given does not fit: {error}")
        return await self._recording.record(call, EntryStatus.OK, payload)

    async def _verdict(
        self, call: OpenCall, body: Body, policy: RetryPolicy, scene: Scene, why: str
    ) -> Done[object] | NotDone | GivenUp:
        """What `verify` says. It only looks, so it is asked again while its errors are worth it."""
        assert body.verify is not None
        asking = Body(body.verify, body.shape, is_async(body.verify), body.timeout_s)
        tries = 0
        while True:
            try:
                found = await execute(asking, call.args, scene.again(call.tries), self._port, self._stray)
            except (KeyboardInterrupt, GeneratorExit, Unwind):
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and cancelling():
                    self._recording.end.check()
                    self._recording.abandon(call)
                    raise
                self._recording.end.check()
                tries += 1
                failure = failure_of(error, policy)
                delay_s = None
                if not isinstance(error, BodyStuck | BodyTimedOut):
                    delay_s = retry_rules.next_delay_s(policy, failure, tries, self._chance())
                if delay_s is None:
                    await self._hold(call, f"{why}; `verify` could not find out", failure)
                await self._pause(call, delay_s)
            else:
                if isinstance(found, Done | NotDone | GivenUp):
                    return cast("Done[object] | NotDone | GivenUp", found)
                said = (
                    f"`verify` returned {type(found).__name__} instead of Done(value), NotDone() or GivenUp()"
                )
                await self._hold(call, f"{why}; {said}")

    async def _pause(self, call: OpenCall, delay_s: float) -> None:
        try:
            await asyncio.sleep(delay_s)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise

    async def _hold(self, call: OpenCall, why: str, cause: Failure | None = None) -> NoReturn:
        assert call.intent is not None
        entry = call.intent.position
        message = (
            f"step {call.name!r} (entry {entry}) may or may not have happened: {why}. Find out, then: "
            f"holdfast approve {self._port.run.id} {entry} --done JSON | --rerun | --fail"
        )
        failure = Failure(
            kind=FailureKind.UNKNOWN, type="EffectUnknown", message=message, cause=cause, entries=(entry,)
        )
        try:
            await self._recording.doubts.hold(call.identity, failure)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise


def given_up(message: str) -> Failure:
    """The failure of an effect that a verdict gave up."""
    return Failure(kind=FailureKind.FATAL, type="GivenUp", message=message)


def not_again(failure: Failure) -> Failure:
    """The failure of an effect whose error leaves open what was done: it says why it was tried only once."""
    return replace(failure, message=f"{failure.message} ({NOT_AGAIN})")
