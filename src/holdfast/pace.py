"""Waits for the turn of a step under a shared rate, before its body is executed: for a moment in memory, else unloaded.

Laws:
1. A turn is taken for each try of a body, never at replay; a crash between the two wastes it, and that is all.
2. A turn that is far ahead is kept by the store: the run is unloaded, and woken a little before it.
3. What was held back meanwhile, or comes too late to be used, is taken again.
4. Nothing of a budget stays reserved while a turn is far ahead.
"""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.model import EntryStatus, Park, Reason
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules.rate import LATE_US, LEAD_US, LOADED_US, RateLimit
from holdfast.rules.retry import MAX_RETRY_AFTER_S
from holdfast.standing import LOADED_SLEEP_S, stand

MAX_LATE: Final = 3
"""So often a turn that came too late is taken again: a store that answers slowly must not starve the step."""


class Pace:
    """What `rate=` of a step does."""

    __slots__ = ("_branches", "_port", "_recording")

    def __init__(self, port: Port, recording: Recording) -> None:
        self._port = port
        self._recording = recording
        self._branches = recording.branches

    async def turn(self, call: OpenCall, limit: RateLimit) -> bool:
        """Return when the body may begin; False: what the call had reserved of a budget was let go meanwhile. Nothing
        of the call is in flight until then."""
        self._port.opened(None)
        self._branches.in_flight -= 1
        try:
            stands = await self._wait(call, limit)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise
        finally:
            self._branches.in_flight += 1
        call.started_at_us = self._port.now_us()
        self._port.opened(call.name, call.started_at_us)
        return stands

    async def hold_back(self, call: OpenCall, limit: RateLimit, for_s: float) -> None:
        """A server asked to wait: tell it to every worker."""
        for_us = round(min(for_s, MAX_RETRY_AFTER_S) * 1e6)
        try:
            await self._recording.end.guarded(self._port.hold_back(limit, for_us))
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise

    async def _wait(self, call: OpenCall, limit: RateLimit) -> bool:
        late, time = 0, asyncio.get_running_loop().time
        while True:
            asked_s = time()
            wait_us = await self._take(call, limit)
            if wait_us > LOADED_US:
                until_us = self._port.now_us() + wait_us - LEAD_US
                beside = call.settled(EntryStatus.ABANDONED)
                if beside:
                    await self._recording.end.guarded(self._port.submit(None, None, beside))
                await self._far_ahead(call, until_us)
                if beside:
                    return False
                continue  # the store has kept it
            if wait_us > 0:
                await asyncio.sleep(wait_us / 1e6)
                if self._recording.doubts.asked is not None:
                    await self._recording.safe_point()
                if await self._recording.end.guarded(self._port.held_back(limit)):
                    continue
            late += 1
            if time() - asked_s <= (wait_us + LATE_US) / 1e6 or late > MAX_LATE:
                return True

    async def _take(self, call: OpenCall, limit: RateLimit) -> int:
        self._recording.end.check()
        turn = await self._recording.end.guarded(self._port.take_turn(limit, str(call.identity)))
        self._recording.end.check()
        return turn.wait_us

    async def _far_ahead(self, call: OpenCall, until_us: int) -> None:
        """Stand until then; the attempt ends where no other code of the run can move meanwhile."""
        park = Park(reason=Reason.RATE, until_us=until_us)
        while (left_s := (until_us - self._port.now_us()) / 1e6) > 0:
            if self._branches.in_flight and not self._branches.several:  # a ctx.once that nobody awaits here
                await asyncio.sleep(min(left_s, LOADED_SLEEP_S))
                if self._recording.doubts.asked is not None:
                    await self._recording.safe_point()
            else:
                await stand(self._port, self._recording, call.identity.scope, park, left_s)
            self._recording.end.check()
