"""The client: start runs of agents in a store, and get a handle on any run there."""

from __future__ import annotations

from holdfast.client.budgets import Budgets
from holdfast.client.client import Client
from holdfast.client.handle import RunHandle
from holdfast.client.resources import ClocksView, ResourcesView, UsageView
from holdfast.client.schedules import FireView, Schedule, Schedules, ScheduleView
from holdfast.client.view import (
    ApprovalView,
    BudgetUnitView,
    BudgetView,
    CheckpointView,
    ChildView,
    CursorView,
    Detail,
    EffectView,
    ErrorView,
    Json,
    OutputView,
    ProgressView,
    RunView,
    StepView,
    StoredCheckpoint,
    WorkerView,
)
from holdfast.client.workers import ServedView, ServingView, Workers

__all__ = [
    "ApprovalView",
    "BudgetUnitView",
    "BudgetView",
    "Budgets",
    "CheckpointView",
    "ChildView",
    "Client",
    "CursorView",
    "Detail",
    "EffectView",
    "ErrorView",
    "FireView",
    "Json",
    "OutputView",
    "ProgressView",
    "ResourcesView",
    "RunHandle",
    "RunView",
    "Schedule",
    "ScheduleView",
    "Schedules",
    "ClocksView",
    "ServedView",
    "ServingView",
    "StepView",
    "StoredCheckpoint",
    "UsageView",
    "WorkerView",
    "Workers",
]
