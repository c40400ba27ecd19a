"""Durable execution for long-running AI agents: the public names, and nothing else.

Importing holdfast is quick: each name brings its module along when it is first used.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it: to import `typing` would be half of the whole import

if TYPE_CHECKING:
    from holdfast.agents import Agent, Every, agent
    from holdfast.approvals import Approval
    from holdfast.bodies import step_context
    from holdfast.children import ChildHandle
    from holdfast.client import Client, RunHandle, Schedule
    from holdfast.commands.agent import command
    from holdfast.context import Context
    from holdfast.controller import Controller
    from holdfast.embedded import run
    from holdfast.errors import (
        ApprovalExpired,
        CheckpointError,
        ChildFailed,
        FatalError,
        HoldfastError,
        RetriesExhausted,
        RunCancelled,
        RunFailed,
        StepFailed,
        TransientError,
        WaitTimedOut,
    )
    from holdfast.model import Artifact, FailureKind, ParentPolicy, RunState
    from holdfast.monitor import Monitor
    from holdfast.parts.checkpoints import Checkpoints
    from holdfast.parts.progress import Progress
    from holdfast.parts.queue import Queue
    from holdfast.parts.recovery import RetryPolicy
    from holdfast.parts.state import State
    from holdfast.programs import Program
    from holdfast.rules.budget import Budget
    from holdfast.rules.lanes import Concurrency
    from holdfast.rules.limits import Limits
    from holdfast.rules.pressure import Thresholds
    from holdfast.rules.prices import Cost, Price, Prices
    from holdfast.rules.rate import RateLimit
    from holdfast.store import open_store
    from holdfast.verdicts import Done, GivenUp, NotDone
    from holdfast.worker import Worker

_HOME = {
    "Agent": "agents",
    "Approval": "approvals",
    "ApprovalExpired": "errors",
    "Artifact": "model",
    "Budget": "rules.budget",
    "CheckpointError": "errors",
    "Checkpoints": "parts.checkpoints",
    "ChildFailed": "errors",
    "ChildHandle": "children",
    "Client": "client",
    "Concurrency": "rules.lanes",
    "Context": "context",
    "Controller": "controller",
    "Cost": "rules.prices",
    "Done": "verdicts",
    "Every": "agents",
    "FailureKind": "model",
    "FatalError": "errors",
    "GivenUp": "verdicts",
    "HoldfastError": "errors",
    "Limits": "rules.limits",
    "NotDone": "verdicts",
    "Monitor": "monitor",
    "Program": "programs",
    "Price": "rules.prices",
    "Prices": "rules.prices",
    "Progress": "parts.progress",
    "Queue": "parts.queue",
    "ParentPolicy": "model",
    "RateLimit": "rules.rate",
    "RetriesExhausted": "errors",
    "RetryPolicy": "parts.recovery",
    "RunCancelled": "errors",
    "RunFailed": "errors",
    "RunHandle": "client",
    "RunState": "model",
    "Schedule": "client",
    "State": "parts.state",
    "StepFailed": "errors",
    "Thresholds": "rules.pressure",
    "TransientError": "errors",
    "WaitTimedOut": "errors",
    "Worker": "worker",
    "agent": "agents",
    "command": "commands.agent",
    "open_store": "store",
    "run": "embedded",
    "step_context": "bodies",
}

__all__ = [
    "Agent",
    "Approval",
    "ApprovalExpired",
    "Artifact",
    "Budget",
    "CheckpointError",
    "Checkpoints",
    "ChildFailed",
    "ChildHandle",
    "Client",
    "Concurrency",
    "Context",
    "Controller",
    "Cost",
    "Done",
    "Every",
    "FailureKind",
    "FatalError",
    "GivenUp",
    "HoldfastError",
    "Limits",
    "NotDone",
    "Monitor",
    "Program",
    "Price",
    "Prices",
    "Progress",
    "Queue",
    "ParentPolicy",
    "RateLimit",
    "RetriesExhausted",
    "RetryPolicy",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunState",
    "Schedule",
    "State",
    "StepFailed",
    "Thresholds",
    "TransientError",
    "WaitTimedOut",
    "Worker",
    "agent",
    "command",
    "open_store",
    "run",
    "step_context",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value: object = getattr(import_module(f"holdfast.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
