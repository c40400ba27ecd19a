"""What a worker has in hand: its agents, and the attempts in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.agents import AnyAgent, Isolation
from holdfast.attempt import Attempt
from holdfast.channel import ChannelPort
from holdfast.ending import Ending, Lost
from holdfast.errors import UsageError
from holdfast.model import Crashed, Failed, Hold, Park, Release, Retry, Succeeded
from holdfast.programs import Program

if TYPE_CHECKING:
    from holdfast.process.frames import Origin
    from holdfast.process.supervisor import ProcessAttempt


class Tenure:
    """An attempt in flight, with what the worker keeps beside it."""

    def __init__(self, attempt: Attempt | ProcessAttempt, port: ChannelPort | ProcessAttempt) -> None:
        self.attempt = attempt
        self.port = port
        self.told_to_end_at: float | None = None
        self.cancelled_at = 0.0
        self.task: asyncio.Task[None] | None = None

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
