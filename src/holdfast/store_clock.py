"""The store's clock, as near as this machine knows it: its own, and how far the store's is ahead, asked now and then.

A timer is recorded as a moment of the store's clock, for any host may go on with it. Where the store is on this machine
both are the same clock, and nothing is added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from holdfast.clock import Clock

ASK_US: Final = 10_000_000
"""Clocks drift by less than a millisecond in this time."""
JUMP_US: Final = 50_000
"""More than this between two looks is nobody's drift: somebody set the clock of this machine."""


class StoreClock:
    """A `Clock` whose wall time is the store's."""

    def __init__(self, own: Clock, ahead_us: int = 0) -> None:
        self._own = own
        self.ahead_us = ahead_us
        self.boot_us, self.boot_id = own.boot_us, own.boot_id
        self._next_us: int | None = None
        self._apart_us = 0

    def wall_us(self) -> int:
        """Microseconds since the epoch, by the store's clock."""
        return self._own.wall_us() + self.ahead_us

    async def keep_up(self, now: Callable[[], Awaitable[int]]) -> None:
        """Ask the store for its time if none was asked for a while, or the clock of this machine was set. What is known
        stays as it is, if the answer allows it: the journey there and back took a time, and any part of it."""
        wall_us, boot_us = self._own.wall_us(), self._own.boot_us()
        was_set = abs(wall_us - boot_us - self._apart_us) > JUMP_US
        if self._next_us is not None and boot_us < self._next_us and not was_set:
            return
        most_us = await now() - wall_us
        least_us = most_us - (self._own.boot_us() - boot_us)
        if not least_us <= self.ahead_us <= most_us:
            self.ahead_us = 0 if least_us <= 0 <= most_us else (least_us + most_us) // 2
        self._next_us, self._apart_us = boot_us + ASK_US, wall_us - boot_us
