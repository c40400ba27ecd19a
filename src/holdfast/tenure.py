"""What a worker has in hand: its agents, and the attempts in flight."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents import AnyAgent, Isolation
from holdfast.attempt import Attempt
from holdfast.channel import Channel, ChannelPort
from holdfast.clock import Clock
from holdfast.ending import Ending, Lost
from holdfast.errors import UsageError
from holdfast.model import (
    Ask,
    Claim,
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
from holdfast.programs import Executing, Program
from holdfast.rules import pressure
from holdfast.rules.limits import NO_LIMITS
from holdfast.rules.wishes import NOT_ALONE
from holdfast.store.protocol import Store
from holdfast.workspace import place_of

if TYPE_CHECKING:
    from holdfast.process.beside import Beside
    from holdfast.process.frames import Origin
    from holdfast.process.launch import Launcher
    from holdfast.process.sightings import Sightings
    from holdfast.process.spawn import SpawnerLike
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


async def new_launcher(store: Store, agents: dict[tuple[str, str], Any]) -> Launcher:
    """What starts processes for the runs of these agents. Raises Refused when their limits cannot be held here."""
    from holdfast.process.launch import open_launcher  # most workers need none

    return await open_launcher(store.lock_folder, [agent.limits or NO_LIMITS for agent in agents.values()])


def warm_spawner(launcher: Launcher, agents: Sequence[AnyAgent]) -> SpawnerLike:
    """Where processes for runs of these agents come from, the first ones on their way."""
    from holdfast.process.spawn import Spawner

    spawner = Spawner(launcher)
    for agent in agents:
        spawner.warm(agent.limits or NO_LIMITS)
    return spawner


def inside(
    claim: Claim,
    agent: AnyAgent,
    channel: Channel,
    clock: Clock,
    store: Store,
    launcher: Launcher | None,
    chance: Callable[[], float],
) -> Tenure:
    """The tenure of a run whose code is in this process."""
    port = ChannelPort(claim, channel, clock, workspace=place_of(store.workspace_folder, claim.run))
    tenure = Tenure(Attempt(claim, agent, port, chance), port)
    if isinstance(agent, Executing):
        _let_execute(tenure, launcher, port.workspace, clock)
    return tenure


def _let_execute(tenure: Tenure, launcher: Launcher | None, workspace: Path | None, clock: Clock) -> None:
    """Let the code of the run have programs executed beside it."""
    assert launcher is not None
    from holdfast.process.beside import Beside, beside  # most workers need none of it
    from holdfast.process.sightings import Sightings

    def park() -> None:
        tenure.interrupt(Park(reason=Reason.PARKED))

    tenure.sightings = Sightings(tenure.attempt.claim.run, clock)
    tenure.programs = Beside(launcher, tenure.port.note, park, tenure.sightings, workspace)
    tenure.scene = contextvars.copy_context()
    tenure.scene.run(beside.set, tenure.programs)


def apart(
    claim: Claim,
    agent: AnyAgent,
    channel: Channel,
    origin: Origin | None,
    spawner: SpawnerLike | None,
    launcher: Launcher | None,
    store: Store,
) -> Tenure:
    """The tenure of a run whose code is in a process of its own."""
    from holdfast.process.supervisor import ProcessAttempt

    if isinstance(agent, Program):
        from holdfast.process.foreign import ProgramSpawner

        assert launcher is not None
        spawner = ProgramSpawner(launcher, agent.command)
    assert spawner is not None
    stillborn = None if launcher is None else launcher.stillborn
    limits = agent.limits or NO_LIMITS
    workspace = place_of(store.workspace_folder, claim.run)
    attempt = ProcessAttempt(
        claim, origin, channel, spawner, limits, stillborn=stillborn, workspace=workspace
    )
    tenure = Tenure(attempt, attempt)
    tenure.sightings = attempt.sightings
    return tenure


async def keep_samples(store: Store, tenures: Mapping[int, Tenure], launcher: Launcher | None) -> None:
    """Store what is seen of the runs in hand, for as long as the worker serves, when anything is."""
    if launcher is not None:
        from holdfast.process.sampling import Sampling  # most workers need none of it

        await Sampling(store, lambda: [tenure.sightings for tenure in tenures.values()]).run()


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
    """The agents whose runs have processes of their own, which can be killed alone."""
    return tuple(
        Served(agent=name, version=version)
        for (name, version), agent in agents.items()
        if (name, version) in origins or isinstance(agent, Program | Executing)
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
