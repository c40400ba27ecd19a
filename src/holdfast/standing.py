"""Standing still for a time or a signal: for a moment in memory, or unloaded when nothing of the run can move."""

from __future__ import annotations

import asyncio
from typing import Final

from holdfast.model import INBOX_REASONS, Park
from holdfast.port import Port
from holdfast.recording import Recording

LOADED_SLEEP_S: Final = 1.0
"""A sleep up to this long stays in memory: unloading and claiming again would cost about as much."""


async def stand(port: Port, recording: Recording, scope: str, park: Park, left_s: float | None) -> None:
    """Wait for a moment, or end the attempt when no code of the run can move before the wait is over."""
    branches = recording.branches
    if not branches.several:
        if left_s is None or left_s > LOADED_SLEEP_S or park.reason in INBOX_REASONS:
            raise recording.end.unwinding(park)
        await asyncio.sleep(left_s)
        return
    branches.wait(scope, park)
    try:
        moved = await branches.movement(LOADED_SLEEP_S if left_s is None else min(left_s, LOADED_SLEEP_S))
        recording.end.check()
        if recording.doubts.asked is not None:
            await recording.safe_point()
        still = None if moved else branches.stillness()
        if still is not None and _worth_unloading(port, still):
            raise recording.end.unwinding(still)
    finally:
        branches.go_on(scope)


def _worth_unloading(port: Port, park: Park) -> bool:
    return park.until_us is None or park.until_us - port.now_us() > LOADED_SLEEP_S * 1e6
