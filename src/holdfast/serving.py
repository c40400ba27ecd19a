"""What a worker serves: its agents, and where the code of their runs is executed."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.agents import AnyAgent, Isolation
from holdfast.attempt import Attempt
from holdfast.channel import Channel, ChannelPort
from holdfast.errors import UsageError
from holdfast.model import Claim, Park, Reason, Served
from holdfast.programs import Executing, Program
from holdfast.rules.limits import NO_LIMITS, Limits
from holdfast.store.protocol import Store
from holdfast.store_clock import StoreClock
from holdfast.tenure import Tenure
from holdfast.workspace import place_of

if TYPE_CHECKING:
    from holdfast.process.frames import Origin
    from holdfast.process.launch import Launcher
    from holdfast.process.spawn import SpawnerLike


class Serving:
    """The agents of one worker. `isolation` and `limits` are for those that do not say it themselves.

    Raises UsageError for agents that cannot be served, and for limits that are nobody's. `prepare` comes before the
    first run, `close` after the last.
    """

    def __init__(
        self,
        agents: Sequence[AnyAgent],
        store: Store,
        isolation: Isolation | None,
        limits: Limits | None,
        clock: StoreClock,
        chance: Callable[[], float],
    ) -> None:
        self.agents = by_served(agents)
        self.origins = origins_of(self.agents, isolation)
        self.launcher: Launcher | None = None
        self.spawner: SpawnerLike | None = None
        self._limits = _limits_of(self.agents, self.origins, limits)
        self._store = store
        self._clock = clock
        self._chance = chance

    @property
    def served(self) -> tuple[Served, ...]:
        """All of them, as the store knows them."""
        return tuple(
            Served(agent=name, version=version, continues=tuple(agent.continues))
            for (name, version), agent in self.agents.items()
        )

    @property
    def within_reach(self) -> set[tuple[str, str]]:
        """Agents and versions whose runs may come to be executed here: with those that they continue."""
        return {(each.agent, version) for each in self.served for version in (each.version, *each.continues)}

    @property
    def apart(self) -> tuple[Served, ...]:
        """Those whose runs have processes of their own, which can be killed alone."""
        return tuple(
            Served(agent=name, version=version)
            for (name, version), agent in self.agents.items()
            if (name, version) in self.origins or isinstance(agent, Program | Executing)
        )

    async def prepare(self) -> None:
        """Have what starts processes, when runs need any; what dead workers left is ended by then.

        Raises Refused for limits that cannot be held here.
        """
        if any(isinstance(agent, Program | Executing) for agent in self.agents.values()):
            self.launcher = await self._new_launcher()
        if self.origins:
            self.spawner = await self._new_spawner()

    async def close(self) -> None:
        """Leave no process behind."""
        for starting in (self.spawner, self.launcher):
            if starting is not None:
                await starting.close()

    def take_on(self, claim: Claim, channel: Channel) -> Tenure:
        """The tenure of a run that was claimed."""
        served = claim.run.agent, claim.run.version
        agent = self.agents[served]
        workspace = place_of(self._store.workspace_folder, claim.run)
        if served in self.origins or isinstance(agent, Program):
            return self._outside(claim, channel, agent, workspace)
        port = ChannelPort(claim, channel, self._clock, workspace=workspace)
        tenure = Tenure(Attempt(claim, agent, port, self._chance), port)
        if isinstance(agent, Executing):
            self._let_execute(tenure, workspace)
        return tenure

    async def keep_samples(self, tenures: Mapping[int, Tenure]) -> None:
        """Store what is seen of the runs in hand, until cancelled; nothing when nothing is."""
        if self.launcher is not None:
            from holdfast.process.sampling import Sampling  # most workers need none of it

            await Sampling(self._store, lambda: [one.sightings for one in tenures.values()]).run()

    async def _new_launcher(self) -> Launcher:
        from holdfast.process.launch import open_launcher  # most workers need none

        return await open_launcher(self._store.lock_folder, self._limits.values())

    async def _new_spawner(self) -> SpawnerLike:
        from holdfast.process.spawn import Spawner

        self.launcher = self.launcher or await self._new_launcher()
        spawner = Spawner(self.launcher)
        for served in self.origins:
            spawner.warm(self._limits[served])
        return spawner

    def _outside(self, claim: Claim, channel: Channel, agent: AnyAgent, workspace: Path | None) -> Tenure:
        """Of a run whose code is in a process of its own."""
        from holdfast.process.supervisor import ProcessAttempt

        served, spawner, launcher = (claim.run.agent, claim.run.version), self.spawner, self.launcher
        if isinstance(agent, Program):
            from holdfast.process.foreign import ProgramSpawner

            assert launcher is not None
            spawner = ProgramSpawner(launcher, agent.command)
        assert spawner is not None
        attempt = ProcessAttempt(
            claim,
            self.origins.get(served),
            channel,
            spawner,
            self._limits[served],
            thresholds=agent.thresholds,
            stillborn=None if launcher is None else launcher.stillborn,
            workspace=workspace,
            clock=self._clock,
        )
        tenure = Tenure(attempt, attempt)
        tenure.sightings = attempt.sightings
        return tenure

    def _let_execute(self, tenure: Tenure, workspace: Path | None) -> None:
        """Let the code of the run have programs executed beside it."""
        assert self.launcher is not None
        from holdfast.process.beside import Beside, beside
        from holdfast.process.sightings import Sightings

        def park() -> None:
            tenure.interrupt(Park(reason=Reason.PARKED))

        tenure.sightings = Sightings(tenure.attempt.claim.run, self._clock)
        tenure.programs = Beside(self.launcher, tenure.port.note, park, tenure.sightings, workspace)
        tenure.scene = contextvars.copy_context()
        tenure.scene.run(beside.set, tenure.programs)


def _limits_of(
    agents: dict[tuple[str, str], Any], origins: Collection[tuple[str, str]], default: Limits | None
) -> dict[tuple[str, str], Limits]:
    """What runs of each agent may use; `default` is for those with a process of their own that do not say it."""
    own = {served for served, agent in agents.items() if served in origins or isinstance(agent, Program)}
    if default is not None and not own:
        raise UsageError(
            "a worker's limits are for runs with a process of their own, and none of its agents has one: "
            "add isolation='process'"
        )
    return {
        served: agent.limits or (default if served in own else None) or NO_LIMITS
        for served, agent in agents.items()
    }


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
