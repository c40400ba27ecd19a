"""The client: start runs of agents in a store, and get a handle on any run there."""

from __future__ import annotations

from holdfast.client.client import Client
from holdfast.client.handle import RunHandle
from holdfast.client.view import (
    CheckpointView,
    Detail,
    ErrorView,
    Json,
    ProgressView,
    ResourcesView,
    RunView,
    StepView,
    StoredCheckpoint,
    WorkerView,
)

__all__ = [
    "CheckpointView",
    "Client",
    "Detail",
    "ErrorView",
    "Json",
    "ProgressView",
    "ResourcesView",
    "RunHandle",
    "RunView",
    "StepView",
    "StoredCheckpoint",
    "WorkerView",
]
