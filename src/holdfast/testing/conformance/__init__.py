"""The store's conformance suite: each promise of the Store protocol is a test named after it.

A store proves itself by running all of it, with no case skipped:

    from holdfast.testing.conformance import MovableClock, Place, StoreConformance

    class MyPlace(Place):
        def handle(self) -> Store: ...
        async def damage_checkpoint(self, run_key: int, n: int) -> None: ...
        async def damage_chunk(self, content_id: str, n: int) -> None: ...
        async def damage_state_of(self, owner: str) -> None: ...
        async def damage_checkpoint_of(self, owner: str, n: int) -> None: ...
        def elsewhere(self) -> Place: ...

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def place(self) -> Place:
            return MyPlace(MovableClock())

It needs pytest and pytest-asyncio. Time never passes by itself: a test moves the clock of its Place, so a lease
ends without anybody waiting for it.
"""

from __future__ import annotations

import pytest

_PARTS = (
    "runs",
    "claims",
    "crashes",
    "commits",
    "outcomes",
    "journals",
    "rehearsals",
    "signals",
    "approvals",
    "workers",
    "handles",
    "tags",
    "schedules",
    "steps",
    "artifacts",
    "parts",
    "lanes",
    "rates",
    "budgets",
    "samples",
    "labels",
    "moving",
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("place", "population", *_PARTS)))

from holdfast.testing.conformance.approvals import ApprovalPromises  # noqa: E402
from holdfast.testing.conformance.artifacts import ArtifactPromises  # noqa: E402
from holdfast.testing.conformance.budgets import BudgetPromises  # noqa: E402
from holdfast.testing.conformance.children import ChildPromises  # noqa: E402
from holdfast.testing.conformance.claims import ClaimPromises  # noqa: E402
from holdfast.testing.conformance.commits import CommitPromises  # noqa: E402
from holdfast.testing.conformance.crashes import CrashPromises  # noqa: E402
from holdfast.testing.conformance.handles import HandlePromises  # noqa: E402
from holdfast.testing.conformance.journals import JournalPromises  # noqa: E402
from holdfast.testing.conformance.labels import LabelPromises  # noqa: E402
from holdfast.testing.conformance.lanes import LanePromises  # noqa: E402
from holdfast.testing.conformance.moving import MovingPromises  # noqa: E402
from holdfast.testing.conformance.outcomes import OutcomePromises  # noqa: E402
from holdfast.testing.conformance.parts import PartPromises  # noqa: E402
from holdfast.testing.conformance.place import MovableClock, Place  # noqa: E402
from holdfast.testing.conformance.rates import RatePromises  # noqa: E402
from holdfast.testing.conformance.rehearsals import RehearsalPromises  # noqa: E402
from holdfast.testing.conformance.room import RoomPromises  # noqa: E402
from holdfast.testing.conformance.runs import RunPromises  # noqa: E402
from holdfast.testing.conformance.samples import SamplePromises  # noqa: E402
from holdfast.testing.conformance.schedules import SchedulePromises  # noqa: E402
from holdfast.testing.conformance.signals import SignalPromises  # noqa: E402
from holdfast.testing.conformance.steps import StepPromises  # noqa: E402
from holdfast.testing.conformance.tags import TagPromises  # noqa: E402
from holdfast.testing.conformance.workers import WorkerPromises  # noqa: E402


class StoreConformance(
    RunPromises,
    ClaimPromises,
    CrashPromises,
    CommitPromises,
    OutcomePromises,
    JournalPromises,
    RehearsalPromises,
    SignalPromises,
    ApprovalPromises,
    ChildPromises,
    WorkerPromises,
    HandlePromises,
    TagPromises,
    SchedulePromises,
    StepPromises,
    ArtifactPromises,
    PartPromises,
    LanePromises,
    RatePromises,
    BudgetPromises,
    RoomPromises,
    SamplePromises,
    LabelPromises,
    MovingPromises,
):
    """Every promise of the Store protocol. Give it a `place` and let pytest collect it."""


__all__ = ["MovableClock", "Place", "StoreConformance"]
