"""What a worker has in hand: the attempts in flight."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.attempt import Attempt
from holdfast.channel import ChannelPort
from holdfast.ending import Ending, Lost
from holdfast.model import (
    Ask,
    Crashed,
    Failed,
    Hold,
    Level,
    Note,
    Park,
    Reason,
    Release,
    Retry,
    Succeeded,
)
from holdfast.rules import pressure
from holdfast.rules.wishes import NOT_ALONE

if TYPE_CHECKING:
    from holdfast.process.beside import Beside
    from holdfast.process.sightings import Sightings
    from holdfast.process.supervisor import ProcessAttempt


_PAUSE: Final = Release(reason=Reason.PAUSED)
"""The store makes it a pause while one is asked; of one that was taken back a moment ago, the run goes on."""
HELD_S: Final = 0.5
"""How long a run that is held back pauses at each step boundary, where nothing holds its processes: as under a machine
at its limits."""


class Tenure:
    """An attempt in flight, with what the worker keeps beside it."""

    def __init__(self, attempt: Attempt | ProcessAttempt, port: ChannelPort | ProcessAttempt) -> None:
        self.attempt = attempt
        self.port = port
        self.programs: Beside | None = None
        self.told_to_end_at: float | None = None
        self.cancelled_at = 0.0
        self.scene: contextvars.Context | None = None
        self.sightings: Sightings | None = None
        self.task: asyncio.Task[None] | None = None
        self._level = Level.OK
        self._held = self._kill_heard = False
        self._pause_s = 0.0

    def press(self, level: Level) -> None:
        """Pass on how the machine is doing."""
        self._level = level
        self.port.slow_down_s = max(pressure.slow_down_s(level), self._pause_s)

    def heed(self, ask: Ask) -> None:
        """Do what people ask of the one who executes the run."""
        if ask.asked == "pause":
            self.port.asked = self.port.asked or _PAUSE
        elif self.port.asked is _PAUSE:
            self.port.asked = None  # resumed before it parked
        if ask.throttled is not self._held:
            self._hold(ask.throttled)
        if ask.kill and not self._kill_heard:
            self._kill_as_asked()

    def _kill_as_asked(self) -> None:
        if self.programs is not None and self.programs.over:
            self.programs.kill()  # how it ended is about to be recorded; of what follows the next look is
            return
        self._kill_heard = True
        if self.programs is not None:
            self.attempt.interrupt(Release(reason=Reason.KILLED))
            self.programs.kill()
        elif not self.attempt.kill_as_asked():
            self._say("kill", f"it cannot be killed alone: {NOT_ALONE}")

    def _hold(self, held: bool) -> None:
        self._held = held
        alone = self.attempt.hold(held) or self.programs is not None
        if self.programs is not None:
            self.programs.hold(held)
        self._pause_s = HELD_S if held and not alone else 0.0
        self.press(self._level)
        how = (
            "its CPU is capped and its memory reclaimed early"
            if alone
            else f"it pauses for {HELD_S:g} s at each step boundary"
        )
        self._say("throttled", f"held back as asked: {how}" if held else "let go as asked")

    def _say(self, code: str, message: str) -> None:
        self.port.note(Note("warning", msgspec.json.encode({"code": code, "message": message})))

    @property
    def key(self) -> int:
        return self.attempt.claim.run.key

    def interrupt(self, ending: Ending) -> None:
        """Ask the code to end now. What it executes beside it is ended at once when another worker may have begun."""
        if self.programs is not None and isinstance(ending, Lost) and not ending.cancelled:
            self.programs.kill()
        self.attempt.interrupt(ending)

    def kill(self) -> bool:
        """End what can be ended without its code; whether there was anything."""
        return (self.programs is not None and self.programs.kill()) or self.attempt.kill()


def told(ending: Ending | None) -> str:
    """How an attempt ended, for the log."""
    match ending:
        case Succeeded():
            return "succeeded"
        case Failed(failure=failure):
            return f"failed: {failure.summary()}"
        case Retry(failure=failure, delay_us=delay_us):
            return f"failed, tried again in {delay_us / 1e6:.1f} s: {failure.summary()}"
        case Park(reason=reason):
            return f"waits ({reason})"
        case Release(reason=reason):
            return f"released ({reason})"
        case Hold(reason=reason, failure=failure):
            return f"held ({reason}): {failure.message}"
        case Crashed(failure=failure):
            return f"crashed: {failure.message}"
        case Lost(message=message):
            return f"is no longer ours: {message or 'cancelled'}"
        case None:
            return "ended"
