"""The concurrency key of a run, worked out from its agent and input where it is started."""

from __future__ import annotations

from holdfast import codec
from holdfast.agents import AnyAgent
from holdfast.model import Lane
from holdfast.rules.lanes import Concurrency


def lane_of(agent: AnyAgent, payload: bytes, given: Concurrency | None = None) -> Lane | None:
    """The key that a run of the agent with this input gets; `given` replaces what the agent declares."""
    limited = given or agent.concurrency
    return None if limited is None else limited.lane(codec.decode_input(agent.fn, payload))
