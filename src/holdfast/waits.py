"""Durable waits: a wake time that is recorded, a signal out of the inbox. A run that waits is unloaded.

Beside other branches a wait stays in memory for as long as one of them can move: see `standing`.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

from holdfast import codec
from holdfast.errors import WaitTimedOut
from holdfast.model import Entry, EntryKind, EntryStatus, Failure, FailureKind, Park, Reason, Signal
from holdfast.opened import OpenCall
from holdfast.port import Port
from holdfast.recording import Recording
from holdfast.rules.journal import TIMEOUT
from holdfast.standing import stand

T = TypeVar("T")


class Waits:
    """What `ctx.sleep` and `ctx.wait_for` do."""

    __slots__ = ("_port", "_recording")

    def __init__(self, port: Port, recording: Recording) -> None:
        self._port = port
        self._recording = recording

    async def sleep(self, call: OpenCall, duration_us: int) -> None:
        """Record the wake time, and wait until then."""
        with call:
            wake_us = await self._wake_time(call, duration_us)
            await self._until(call, wake_us)
            self._recording.deliver(call)

    def open(self, signal: str, key: str | None, *, timed: bool) -> OpenCall:
        """Take the identity of a wait, and that of its timer when it has a time, and open it."""
        timer = self._recording.identify(EntryKind.TIMER, f"{signal}{TIMEOUT}", key) if timed else None
        call = self._recording.begin(EntryKind.SIGNAL, signal, key, b"")
        call.first = timer
        return call

    async def wait_for(self, call: OpenCall, timeout_us: int, kind: type[T] | None) -> T:
        """Consume the oldest signal of the call's name, or record that none came before the timer."""
        recording = self._recording
        with call:
            until_us = None
            if call.first is not None:
                until_us = await self._wake_time(call.first, timeout_us)
                recording.deliver(call.first)
            entry = await recording.answered(call)
            if entry is None:
                entry = await self._receive(call, until_us)
            recording.deliver(call)
            if entry.status is EntryStatus.FAILED:
                raise WaitTimedOut(f"no signal {call.name!r} came in time", entry=call.position)
            return cast("T", codec.decode(entry.payload, kind, what=f"the signal {call.name!r}"))

    async def _wake_time(self, call: OpenCall, duration_us: int) -> int:
        entry = await self._recording.answered(call)
        if entry is None:
            wake = str(self._port.now_us() + duration_us).encode()
            entry = await self._recording.record(call, EntryStatus.OK, wake)
        return int(entry.payload)

    async def _until(self, call: OpenCall, wake_us: int) -> None:
        try:
            while (left_us := wake_us - self._port.now_us()) > 0:
                await self.stand(call, Park(reason=Reason.SLEEP, until_us=wake_us), left_us / 1e6)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.unseen(call)
            raise

    async def _receive(self, call: OpenCall, until_us: int | None) -> Entry:
        try:
            signal = await self.next_signal(call, call.name, until_us, Reason.SIGNAL)
        except asyncio.CancelledError:
            self._recording.end.check()
            self._recording.abandon(call)
            raise
        if signal is not None:
            return await self._recording.record(call, EntryStatus.OK, signal.payload, signal=signal.n)
        late = Failure(
            kind=FailureKind.TIMED_OUT, type="WaitTimedOut", message=f"no signal {call.name!r} in time"
        )
        return await self._recording.record(call, EntryStatus.FAILED, codec.encode(late, what="a failure"))

    async def next_signal(
        self, call: OpenCall, name: str, until_us: int | None, reason: Reason
    ) -> Signal | None:
        """The oldest signal of this name in the inbox, waited for until then at most; None when none came. It is
        consumed by the entry that says so."""
        while True:
            newest, signals = await self._recording.end.guarded(self._port.inbox())
            signal = next((signal for signal in signals if signal.name == name), None)
            left_us = None if until_us is None else until_us - self._port.now_us()
            if signal is not None or (left_us is not None and left_us <= 0):
                return signal
            park = Park(reason=reason, until_us=until_us, wait_name=name, inbox_seen=newest)
            await self.stand(call, park, None if left_us is None else left_us / 1e6)

    async def stand(self, call: OpenCall, park: Park, left_s: float | None) -> None:
        """Wait for a moment, or end the attempt when no code of the run can move before the wait is over."""
        await stand(self._port, self._recording, call.identity.scope, park, left_s)
