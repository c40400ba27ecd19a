"""Durable execution for long-running AI agents: the public names, and nothing else.

Importing holdfast is quick: each name brings its module along when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.agents import Agent, Every, agent
    from holdfast.client import Client, RunHandle, Schedule
    from holdfast.context import Context
    from holdfast.controller import Controller
    from holdfast.embedded import run
    from holdfast.errors import (
        CheckpointError,
        FatalError,
        HoldfastError,
        RetriesExhausted,
        RunCancelled,
        RunFailed,
        StepFailed,
        TransientError,
        WaitTimedOut,
    )
    from holdfast.model import FailureKind, RunState
    from holdfast.rules.lanes import Concurrency
    from holdfast.rules.pressure import Thresholds
    from holdfast.rules.rate import RateLimit
    from holdfast.rules.retry import RetryPolicy
    from holdfast.store import open_store
    from holdfast.worker import Worker

_HOME = {
    "Agent": "agents",
    "CheckpointError": "errors",
    "Client": "client",
    "Concurrency": "rules.lanes",
    "Context": "context",
    "Controller": "controller",
    "Every": "agents",
    "FailureKind": "model",
    "FatalError": "errors",
    "HoldfastError": "errors",
    "RateLimit": "rules.rate",
    "RetriesExhausted": "errors",
    "RetryPolicy": "rules.retry",
    "RunCancelled": "errors",
    "RunFailed": "errors",
    "RunHandle": "client",
    "RunState": "model",
    "Schedule": "client",
    "StepFailed": "errors",
    "Thresholds": "rules.pressure",
    "TransientError": "errors",
    "WaitTimedOut": "errors",
    "Worker": "worker",
    "agent": "agents",
    "open_store": "store",
    "run": "embedded",
}

__all__ = [
    "Agent",
    "CheckpointError",
    "Client",
    "Concurrency",
    "Context",
    "Controller",
    "Every",
    "FailureKind",
    "FatalError",
    "HoldfastError",
    "RateLimit",
    "RetriesExhausted",
    "RetryPolicy",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "RunState",
    "Schedule",
    "StepFailed",
    "Thresholds",
    "TransientError",
    "WaitTimedOut",
    "Worker",
    "agent",
    "open_store",
    "run",
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
