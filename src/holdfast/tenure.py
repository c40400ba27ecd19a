"""What a worker has in hand: its agents, and the attempts in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents import AnyAgent, Isolation
from holdfast.attempt import Attempt
from holdfast.channel import ChannelPort
from holdfast.ending import Ending, Lost
from holdfast.errors import UsageError
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
    Served,
    Succeeded,
)
from holdfast.programs import Program
from holdfast.rules import pressure
from holdfast.rules.wishes import NOT_ALONE

if TYPE_CHECKING:
    from holdfast.process.frames import Origin
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
        self.told_to_end_at: float | None = None
        self.cancelled_at = 0.0
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
            self._kill_heard = True
            if not self.attempt.kill_as_asked():
                self._say("kill", f"it cannot be killed alone: {NOT_ALONE}")

    def _hold(self, held: bool) -> None:
        self._held = held
        alone = self.attempt.hold(held)
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


def origins_of(
    agents: dict[tuple[str, str], Any], default: Isolation | None
) -> dict[tuple[str, str], Origin]:
    """Where the agents are found whose runs have a process of their own."""
    isolated = {
        served: agent
        for served, agent in agents.items()
        if (agent.isolation or default) == "process" and not isinstance(agent, Program)
    }
    if not isolated:
        return {}
    from holdfast.process.supervisor import origin_of  # most workers need none of it

    return {served: origin_of(agent) for served, agent in isolated.items()}


def apart_of(agents: dict[tuple[str, str], Any], origins: Collection[tuple[str, str]]) -> tuple[Served, ...]:
    """The agents whose runs have a process each, which can be killed alone."""
    return tuple(
        Served(agent=name, version=version)
        for (name, version), agent in agents.items()
        if (name, version) in origins or isinstance(agent, Program)
    )


def check_served(agents: Sequence[AnyAgent]) -> None:
    """Raise UsageError for what no worker can serve: see `by_served`, and `place_of` for agents in processes."""
    origins_of(by_served(agents), None)


def by_served(agents: Sequence[AnyAgent]) -> dict[tuple[str, str], Any]:
    """The agents by name and version. Raises UsageError for what is none, or two that are one to a run."""
    found: dict[tuple[str, str], Any] = {}
    for agent in agents:
        if not hasattr(agent, "fn"):
            raise UsageError(f"a worker serves agents; {agent!r} is none: put @agent on the function")
        if isinstance(agent, Program):
            agent.check()
        if found.setdefault((agent.name, agent.version), agent) is not agent:
            raise UsageError(
                f"two agents are called {agent.name!r} with version {agent.version!r}; rename one"
            )
    if not found:
        raise UsageError("a worker needs at least one agent")
    return found
